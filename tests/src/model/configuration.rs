//! What is explored: how much there is of everything, and what may go wrong how often.

use super::state::Left;

/// A site, the launches on it, and what may happen to them.
#[derive(Debug, Clone, Copy)]
pub struct Configuration {
    /// What it is called, on the command line too.
    pub name: &'static str,
    /// How many instances are launched.
    pub launches: usize,
    /// For how many instances each host has room.
    pub hosts: &'static [u32],
    /// Whether all launches ask for the same address, and there is storage for one of them.
    pub is_scarce: bool,
    /// Whether answers to agents are on their way for a while, and may be lost.
    pub has_slow_answers: bool,
    /// What may happen besides deliveries.
    pub left: Left,
    /// Of how many states one is healed; 1 for every one.
    pub heals_one_in: u64,
    /// How many things may happen one after the other, if not all that can be reached is explored.
    pub depth_max: Option<usize>,
}

const NONE: Left = Left {
    crashes: 0,
    losses: 0,
    failures: 0,
    restarts: 0,
    deaths: 0,
    deadlines: 0,
    overlaps: 0,
    stops: 0,
    starts: 0,
    terminations: 0,
};

/// One instance on a site with room for it.
const ONE: Configuration = Configuration {
    name: "",
    launches: 1,
    hosts: &[1],
    is_scarce: false,
    has_slow_answers: true,
    left: NONE,
    heals_one_in: 1,
    depth_max: None,
};

/// Two hosts with room for it.
const TWO_HOSTS: Configuration = Configuration { hosts: &[1, 1], ..ONE };

/// Two instances that want the last of everything.
const SCARCE: Configuration = Configuration { launches: 2, is_scarce: true, ..ONE };

const LAUNCH: Configuration = Configuration {
    name: "launch: 2 crashes, terminate",
    left: Left { crashes: 2, terminations: 1, ..NONE },
    ..ONE
};
const LAUNCH_TINY: Configuration =
    Configuration { name: "launch, tiny: nothing goes wrong", has_slow_answers: false, ..ONE };
const LATE: Configuration = Configuration {
    name: "late: deadline, crash, terminate",
    left: Left { deadlines: 1, crashes: 1, terminations: 1, ..NONE },
    has_slow_answers: false,
    ..ONE
};
const STOPPED: Configuration = Configuration {
    name: "stopped: stop, start, terminate",
    left: Left { stops: 1, starts: 1, terminations: 1, ..NONE },
    ..ONE
};
const STARTED_LATE: Configuration = Configuration {
    name: "started late: stop, start, deadline",
    left: Left { stops: 1, starts: 1, deadlines: 1, ..NONE },
    has_slow_answers: false,
    ..ONE
};
const DEAD: Configuration = Configuration {
    name: "dead: host silent, then dead, terminate",
    left: Left { deaths: 1, terminations: 1, ..NONE },
    has_slow_answers: false,
    ..TWO_HOSTS
};
const SAID_DEAD: Configuration = Configuration {
    name: "said dead: crash, also of the api as it says so",
    left: Left { deaths: 1, crashes: 1, ..NONE },
    has_slow_answers: false,
    ..TWO_HOSTS
};
const FAILED: Configuration = Configuration {
    name: "failed: 2 failed starts or ends, restart",
    left: Left { failures: 2, restarts: 1, ..NONE },
    has_slow_answers: false,
    ..TWO_HOSTS
};
const LOSSY: Configuration = Configuration {
    name: "lossy: loss, terminate",
    left: Left { losses: 1, terminations: 1, ..NONE },
    ..ONE
};
const LAST: Configuration = Configuration {
    name: "last: two want the last of everything",
    has_slow_answers: false,
    ..SCARCE
};
// There is room for both on the host, so that both come as far as the address.
const OVERLAP: Configuration = Configuration {
    name: "overlap: two want one address, up to 8 steps",
    hosts: &[2],
    left: Left { overlaps: 1, ..NONE },
    has_slow_answers: false,
    depth_max: Some(8),
    ..SCARCE
};

const LAUNCH_LARGE: Configuration = Configuration {
    name: "launch, large: 2 crashes, loss, restart, terminate",
    left: Left { crashes: 2, losses: 1, restarts: 1, terminations: 1, ..NONE },
    heals_one_in: 4,
    ..ONE
};
const LATE_LARGE: Configuration = Configuration {
    name: "late, large: deadline, 2 crashes, terminate",
    left: Left { deadlines: 1, crashes: 2, terminations: 1, ..NONE },
    heals_one_in: 4,
    ..ONE
};
const STOPPED_LARGE: Configuration = Configuration {
    name: "stopped, large: 2 stops, 2 starts, crash, deadline",
    left: Left { stops: 2, starts: 2, crashes: 1, deadlines: 1, terminations: 1, ..NONE },
    heals_one_in: 4,
    ..ONE
};
const DEAD_LARGE: Configuration = Configuration {
    name: "dead, large: crash, deadline, stop, start",
    left: Left { deaths: 1, crashes: 1, deadlines: 1, stops: 1, starts: 1, ..NONE },
    has_slow_answers: false,
    heals_one_in: 4,
    ..TWO_HOSTS
};
const FAILED_LARGE: Configuration = Configuration {
    name: "failed, large: 3 failed starts or ends, terminate",
    left: Left { failures: 3, restarts: 1, terminations: 1, ..NONE },
    heals_one_in: 4,
    ..TWO_HOSTS
};
const LAST_LARGE: Configuration = Configuration {
    name: "last, large: terminate",
    left: Left { terminations: 1, ..NONE },
    has_slow_answers: false,
    heals_one_in: 8,
    ..SCARCE
};
const OVERLAP_LARGE: Configuration = Configuration {
    name: "overlap, large: two want one address, up to 14 steps",
    heals_one_in: 8,
    depth_max: Some(14),
    ..OVERLAP
};

/// The set that debug builds can explore.
pub const TINY: &[Configuration] = &[LAUNCH_TINY];
/// The set that a release build explores in half a minute on two cores.
pub const SHORT: &[Configuration] =
    &[LAUNCH, LATE, STOPPED, STARTED_LATE, DEAD, SAID_DEAD, FAILED, LOSSY, LAST, OVERLAP];
/// The set that takes minutes, and some GiB.
pub const LARGE: &[Configuration] =
    &[LAUNCH_LARGE, LATE_LARGE, STOPPED_LARGE, DEAD_LARGE, FAILED_LARGE, LAST_LARGE, OVERLAP_LARGE];
