//! Modes: how much of what users ask the plane takes on.

/// A mode, the mildest first. What hosts report, and what is under way, goes on in every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Everything is done.
    Normal,
    /// Launches and starts are let through at a small rate; stops and terminations all are.
    Shedding,
    /// Nothing begins: only stops and terminations are done.
    TerminateOnly,
    /// Users change nothing.
    ReadOnly,
}

impl Mode {
    /// All modes, the mildest first.
    pub const ALL: [Mode; 4] = [Mode::Normal, Mode::Shedding, Mode::TerminateOnly, Mode::ReadOnly];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Normal => "normal",
            Mode::Shedding => "shedding",
            Mode::TerminateOnly => "terminate-only",
            Mode::ReadOnly => "read-only",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_found_by_its_name() {
        let names = ["normal", "shedding", "terminate-only", "read-only"];
        assert_eq!(Mode::ALL.map(Mode::name), names);
        assert_eq!(names.map(Mode::of_name), Mode::ALL.map(Some));
        assert_eq!(Mode::of_name("off"), None);
    }
}
