//! Release numbers as members tell them to each other: `major.minor.patch`, with a pre-release or build behind it.

use std::fmt;
use std::str::FromStr;

/// A release number; what stands behind the patch number is checked and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl Version {
    /// `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Major and minor: what compatibility is about.
    #[must_use]
    pub fn minor_of(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no version")]
pub struct VersionError {
    /// The text, cut after 64 bytes.
    pub text: String,
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError { text: text.chars().take(64).collect() };
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        let is_suffix = |suffix: &str| {
            suffix.split('.').all(|part| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        };
        if !pre.into_iter().chain(build).all(is_suffix) {
            return Err(wrong());
        }
        let number = |part: Option<&str>| {
            let digits =
                part.filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)
        };
        let mut parts = core.split('.');
        let version = Self::new(number(parts.next())?, number(parts.next())?, number(parts.next())?);
        if parts.next().is_some() { Err(wrong()) } else { Ok(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_everything_else_is_refused() {
        for (text, expected) in [
            ("3.5.1", Version::new(3, 5, 1)),
            ("3.8.0-alpha.0", Version::new(3, 8, 0)),
            ("2.0.0+git", Version::new(2, 0, 0)),
            ("3.7.1-rc.1+a.b", Version::new(3, 7, 1)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in
            ["", "3", "3.5", "3.5.1.2", "v3.5.1", "3.5.x", "3.5.1-", "3.5.1+", "3..1", "99999999999.0.0"]
        {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert_eq!(Version::new(3, 7, 0).to_string(), "3.7.0");
    }
}
