//! What many histories came to, and whether all has happened in them that should have: a generator
//! that no longer makes a kind of trouble proves nothing.

use super::bus::REASON;
use super::chaos::Counts;
use super::fault::{KINDS, Kind, Kinds, Profile};
use super::rest::History;
use eventplane_domain::code;
use std::fmt::Write as _;
use std::time::Duration;

/// From how many histories of a profile on each of its kinds has to have struck.
const ENOUGH: u64 = 500;
/// How often each of them, and each at each function, has to have struck then.
const STRIKES_MIN: u64 = 20;
const AT_FUNCTION_MIN: u64 = 1;
/// When a worker may die.
const CRASHES: [&str; 3] =
    ["crash before any effect", "crash between commit and publishing", "crash after publishing"];
/// Why instances end, in histories of all profiles.
const REASONS: [&str; 7] = [
    code::INSUFFICIENT_CAPACITY,
    code::INTERNAL,
    code::LAUNCH_TIMEOUT,
    code::HOST_DEAD,
    code::ADDRESS_IN_USE,
    code::USER_SHUTDOWN,
    code::INSTANCE_SHUTDOWN,
];
const FUNCTIONS: [&str; 6] = ["capacity", "handoff", "instances", "network", "security", "storage"];

/// What histories came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    histories: u64,
    launches: u64,
    steps: u64,
    commits: u64,
    lasted_ms: i64,
    running: u64,
    stopped: u64,
    generations: u64,
    nudges: u64,
    counts: Counts,
    /// What should have happened by now.
    expected: Kinds,
    profiles: Vec<Profile>,
    took: Duration,
}

impl Totals {
    pub(crate) const HEADER: &'static str = "profile  histories  launches  simulated hours     \
         steps   commits   running  stopped  further runs   nudges    trouble  histories/s";

    pub(crate) fn of(profile: Profile) -> Totals {
        Totals { profiles: vec![profile], ..Totals::default() }
    }

    pub(crate) fn count(&mut self, history: &History) {
        self.histories += 1;
        self.launches += history.instances as u64;
        self.steps += history.steps;
        self.commits += history.commits;
        self.lasted_ms += history.lasted_ms;
        self.running += history.running as u64;
        self.stopped += history.stopped as u64;
        self.generations += history.generations as u64;
        self.nudges += history.nudges as u64;
        for (what, times) in &history.counts {
            *self.counts.entry(what.clone()).or_default() += times;
        }
    }

    /// All histories of its profile have been counted: from here on enough should have happened.
    pub(crate) fn close(&mut self, took: Duration) {
        self.took = took;
        if self.histories >= ENOUGH {
            self.expected = self
                .profiles
                .iter()
                .flat_map(|one| one.kinds().iter())
                .fold(self.expected, Kinds::with);
        }
    }

    pub(crate) fn add(&mut self, other: &Totals) {
        self.histories += other.histories;
        self.launches += other.launches;
        self.steps += other.steps;
        self.commits += other.commits;
        self.lasted_ms += other.lasted_ms;
        self.running += other.running;
        self.stopped += other.stopped;
        self.generations += other.generations;
        self.nudges += other.nudges;
        for (what, times) in &other.counts {
            *self.counts.entry(what.clone()).or_default() += times;
        }
        self.expected = other.expected.iter().fold(self.expected, Kinds::with);
        let new = other.profiles.iter().filter(|one| !self.profiles.contains(one));
        self.profiles.extend(new.copied().collect::<Vec<_>>());
        self.took += other.took;
    }

    fn struck(&self, what: &str) -> u64 {
        self.counts.iter().filter(|((name, _), _)| *name == what).map(|(_, times)| times).sum()
    }

    pub(crate) fn line(&self, name: &str) -> String {
        let seconds = self.took.as_secs_f64();
        let rate = match seconds > 0.0 {
            true => format!("{:.0}", self.histories as f64 / seconds),
            false => "-".to_owned(),
        };
        let trouble: u64 = KINDS.iter().map(|(_, name, _)| self.struck(name)).sum();
        format!(
            "{name:>7} {:>10} {:>9} {:>16} {:>9} {:>9} {:>9} {:>8} {:>13} {:>8} {trouble:>10} {rate:>12}",
            self.histories,
            self.launches,
            self.lasted_ms / 3_600_000,
            self.steps,
            self.commits,
            self.running,
            self.stopped,
            self.generations,
            self.nudges,
        )
    }

    /// How often each kind of trouble struck, where, and why instances ended.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let mut line = |what: &str, at: String, about: &str| {
            let times = self.struck(what);
            if times > 0 {
                let _ = writeln!(table, "{times:>10}  {what}: {about}{at}");
            }
        };
        let places = |what: &str| {
            let at = self.counts.iter().filter(|((name, _), _)| *name == what);
            let at: Vec<String> = at.map(|((_, at), times)| format!("{at} {times}")).collect();
            format!(" ({})", at.join(", "))
        };
        for (kind, name, about) in KINDS {
            let at = if kind.is_of_functions() { places(name) } else { String::new() };
            line(name, at, about);
        }
        for what in CRASHES {
            line(what, places(what), "of the crashes");
        }
        for ((what, reason), times) in &self.counts {
            if *what == REASON {
                let _ = writeln!(table, "{times:>10}  generations that ended: {reason}");
            }
        }
        table
    }

    /// What has not happened, or not often enough, though there were histories enough.
    pub(crate) fn missing(&self) -> Vec<String> {
        let at = |what: &'static str, place: &str| {
            self.counts.get(&(what, place.to_owned())).copied().unwrap_or_default()
        };
        let mut missing = vec![];
        for kind in self.expected.iter() {
            let struck = self.struck(kind.name());
            let is_of_setup = matches!(kind, Kind::Hasty | Kind::Scarce | Kind::Reversed);
            if struck < STRIKES_MIN && !is_of_setup {
                missing.push(format!("{kind} struck {struck} times"));
            }
            if kind.is_of_functions() {
                let never = FUNCTIONS.iter().filter(|one| at(kind.name(), one) < AT_FUNCTION_MIN);
                missing.extend(never.map(|function| format!("{kind} at {function}")));
            }
        }
        if self.expected.has(Kind::Crash) {
            for what in CRASHES {
                let never = FUNCTIONS.iter().filter(|one| at(what, one) == 0);
                missing.extend(never.map(|function| format!("{what} at {function}")));
            }
        }
        if self.profiles.len() == super::fault::PROFILES.len() && self.histories >= 9 * ENOUGH {
            let never = REASONS.iter().filter(|reason| at(REASON, reason) == 0);
            missing.extend(never.map(|reason| format!("an instance that ended for {reason}")));
        }
        missing
    }
}
