//! Replay files: a whole scenario as JSON, so that a failure can be run again whatever a seed draws by then.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::report::COMMIT;
use crate::scenario::{Scenario, ScenarioError};

/// The only form so far.
const FORM: u32 = 1;

/// Why a replay file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read or written.
    #[error("replay file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not what this program writes.
    #[error("replay file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: serde_json::Error,
    },
    /// It is of another form.
    #[error("replay file {}: form {found}, this program reads form {FORM}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// It holds a scenario that cannot be run.
    #[error("replay file {}: {source}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ScenarioError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    form: u32,
    /// The commit that it was written at: with another one the run may be another, too.
    commit: String,
    scenario: Scenario,
}

/// Writes a scenario; returns nothing but where it went wrong.
///
/// # Errors
/// [`ReplayError::Io`].
pub fn write(path: &Path, scenario: &Scenario) -> Result<(), ReplayError> {
    let replay = Replay { form: FORM, commit: COMMIT.to_owned(), scenario: scenario.clone() };
    let text = serde_json::to_string_pretty(&replay)
        .map_err(|source| ReplayError::Unreadable { path: path.to_owned(), source })?;
    std::fs::write(path, text + "\n").map_err(|source| ReplayError::Io { path: path.to_owned(), source })
}

/// Reads a scenario that can be run.
///
/// # Errors
/// [`ReplayError`].
pub fn read(path: &Path) -> Result<Scenario, ReplayError> {
    let io = |source| ReplayError::Io { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let replay: Replay = serde_json::from_str(&text)
        .map_err(|source| ReplayError::Unreadable { path: path.to_owned(), source })?;
    if replay.form != FORM {
        return Err(ReplayError::Form { path: path.to_owned(), found: replay.form });
    }
    replay.scenario.check().map_err(|source| ReplayError::Scenario { path: path.to_owned(), source })?;
    Ok(replay.scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_comes_back_as_it_was_and_anything_else_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.json");
        for seed in 0..300 {
            let scenario = Scenario { skipped: vec![seed, 9], ..Scenario::of_seed(seed, 500) };
            write(&path, &scenario).unwrap();
            assert_eq!(read(&path).unwrap(), scenario);
        }
        let good = std::fs::read_to_string(&path).unwrap();
        for (bad, reason) in [
            (String::new(), "line 1"),
            (good.replace("\"members\"", "\"membres\""), "unknown field `membres`"),
            (good.replace("\"form\": 1", "\"form\": 2"), "form 2, this program reads form 1"),
            (good.replace("\"keys\": ", "\"keys\": -"), "invalid value"),
            (good.replace("\"steps\": 500", "\"steps\": 0"), "at least one step"),
            (good[..good.len() / 2].to_owned(), "EOF"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let wrong = read(&path).expect_err(reason).to_string();
            assert!(wrong.contains(reason) && wrong.contains("seed.json"), "{wrong}");
        }
        let missing = read(&dir.path().join("none")).expect_err("there is none").to_string();
        assert!(missing.contains("none: No such file"), "{missing}");
    }
}
