//! Feature gates: `--feature-gates=Name=true,Other=false`.

use super::value::parse_bool;

/// Maturity of a gate; `AllAlpha` and `AllBeta` switch a whole stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default.
    Alpha,
    /// May be on by default.
    Beta,
}

/// Name, stage and default of every gate, in etcd's spelling.
pub const GATES: &[(&str, Stage, bool)] = &[
    ("AllAlpha", Stage::Alpha, false),
    ("AllBeta", Stage::Beta, false),
    ("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    ("InitialCorruptCheck", Stage::Alpha, false),
    ("CompactHashCheck", Stage::Alpha, false),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
    ("LeaseCheckpoint", Stage::Alpha, false),
    ("LeaseCheckpointPersist", Stage::Alpha, false),
    ("SetMemberLocalAddr", Stage::Alpha, false),
    ("FastLeaseKeepAlive", Stage::Beta, true),
    ("PriorityRequest", Stage::Alpha, false),
];

/// The explicitly set gates, in the order given.
pub(crate) fn parse(text: &str) -> Result<Vec<(&'static str, bool)>, String> {
    let mut set = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, word) = item.split_once('=').ok_or_else(|| format!("missing bool value for {item}"))?;
        let (name, word) = (name.trim(), word.trim());
        let on = parse_bool(word).ok_or_else(|| {
            format!(
                "invalid value of {name}={word}, err: strconv.ParseBool: parsing {word:?}: invalid syntax"
            )
        })?;
        let &(known, ..) = GATES
            .iter()
            .find(|(gate, ..)| *gate == name)
            .ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
        set.push((known, on));
    }
    Ok(set)
}

/// Which gates are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    explicit: Vec<(&'static str, bool)>,
}

impl FeatureGates {
    pub(crate) fn new(explicit: Vec<(&'static str, bool)>) -> Self {
        Self { explicit }
    }

    fn explicit(&self, name: &str) -> Option<bool> {
        // The last setting of a name wins.
        self.explicit.iter().rev().find(|(gate, _)| *gate == name).map(|&(_, on)| on)
    }

    /// Whether a gate is on: its own setting, else its stage's, else its default.
    #[must_use]
    pub fn enabled(&self, name: &str) -> bool {
        let Some(&(_, stage, default)) = GATES.iter().find(|(gate, ..)| *gate == name) else { return false };
        let all = match stage {
            Stage::Alpha => "AllAlpha",
            Stage::Beta => "AllBeta",
        };
        self.explicit(name).or_else(|| self.explicit(all)).unwrap_or(default)
    }

    /// `Name=bool,…` of the gates that were set, as the start line prints them.
    #[must_use]
    pub fn explicit_text(&self) -> String {
        let mut items: Vec<String> = self.explicit.iter().map(|(name, on)| format!("{name}={on}")).collect();
        items.sort();
        items.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_overrides() {
        let gates = FeatureGates::new(parse(" AllAlpha = true , LeaseCheckpoint=0").unwrap());
        assert!(gates.enabled("CompactHashCheck"));
        assert!(!gates.enabled("LeaseCheckpoint"));
        assert!(gates.enabled("FastLeaseKeepAlive"));
        assert_eq!(gates.explicit_text(), "AllAlpha=true,LeaseCheckpoint=false");
    }

    #[test]
    fn refuses_with_etcds_words() {
        assert_eq!(parse("Foo=true").unwrap_err(), "unrecognized feature gate: Foo");
        assert_eq!(parse("AllBeta").unwrap_err(), "missing bool value for AllBeta");
        assert_eq!(
            parse("AllBeta=1x").unwrap_err(),
            "invalid value of AllBeta=1x, err: strconv.ParseBool: parsing \"1x\": invalid syntax"
        );
    }
}
