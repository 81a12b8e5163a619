//! What the template tells a function through its environment, read once.

use thiserror::Error;

/// A setting that is missing or not of its form.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// It is not there.
    #[error("the environment variable {0} is missing: template.yaml sets it for this function")]
    Missing(String),
    /// They are not the waits between the receives of a message.
    #[error("RETRY_WAITS_S is `{0}`; it has to be four whole numbers of seconds, up to 43200 each")]
    Waits(String),
    /// It is not a whole number of seconds.
    #[error("{name} is `{value}`; it has to be a whole number of seconds, at least 1")]
    Seconds {
        /// The variable.
        name: String,
        /// What it is.
        value: String,
    },
}

/// The settings of a function: environment variables, unless a test has others.
pub(crate) struct Settings<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Settings<'_> {
    /// The setting `name`, if it is there and not empty.
    #[must_use]
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The setting `name`.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn text(&self, name: &str) -> Result<String, SettingError> {
        self.optional(name).ok_or_else(|| SettingError::Missing(name.to_owned()))
    }

    /// The setting `name` in seconds, as milliseconds.
    ///
    /// # Errors
    /// When it is not there, or not a whole number of at least 1.
    pub(crate) fn seconds_as_ms(&self, name: &str) -> Result<i64, SettingError> {
        let value = self.text(name)?;
        let seconds = value.parse::<i64>().ok().filter(|seconds| *seconds >= 1);
        let ms = seconds.and_then(|seconds| seconds.checked_mul(1000));
        ms.ok_or_else(|| SettingError::Seconds { name: name.to_owned(), value })
    }

    /// A time in whole seconds, as milliseconds; none where it is 0.
    ///
    /// # Errors
    /// When it is not there, or not a number from 0 on.
    pub(crate) fn seconds_as_ms_if_any(&self, name: &str) -> Result<Option<i64>, SettingError> {
        if self.text(name)? == "0" { Ok(None) } else { self.seconds_as_ms(name).map(Some) }
    }

    /// The setting `name` of one function or table, such as `TABLE_CAPACITY`.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn of(&self, name: &str, whose: &str) -> Result<String, SettingError> {
        self.text(&format!("{name}_{}", whose.to_uppercase()))
    }
}

/// The process's environment.
pub(crate) const ENVIRONMENT: Settings<'static> = Settings(&variable);

#[allow(clippy::disallowed_methods, reason = "the edge: where a function's settings are read")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The variables of the process's environment that begin with `prefix`: the rest of each name, in
/// small letters, with its value; in the order of the names.
pub(crate) fn environment_of(prefix: &str) -> Vec<(String, String)> {
    let of =
        |(name, value): (String, String)| Some((name.strip_prefix(prefix)?.to_lowercase(), value));
    let mut all: Vec<(String, String)> = std::env::vars().filter_map(of).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_right_says_what_would_be() {
        let read = |name: &str| match name {
            "TABLE_CAPACITY" => Some("t-1".to_owned()),
            "LAUNCH_DEADLINE_S" => Some("600".to_owned()),
            "ZERO" => Some("0".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let settings = Settings(&read);
        assert_eq!(settings.of("TABLE", "capacity"), Ok("t-1".to_owned()));
        assert_eq!(settings.seconds_as_ms("LAUNCH_DEADLINE_S"), Ok(600_000));
        assert_eq!(settings.seconds_as_ms_if_any("LAUNCH_DEADLINE_S"), Ok(Some(600_000)));
        assert_eq!(settings.seconds_as_ms_if_any("ZERO"), Ok(None));
        for (name, why) in [("ZERO", "at least 1"), ("EMPTY", "is missing"), ("NONE", "is missing")]
        {
            let error = settings.seconds_as_ms(name).expect_err(name).to_string();
            assert!(error.contains(why) && error.contains(name), "{error}");
        }
    }
}
