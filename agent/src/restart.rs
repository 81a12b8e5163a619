//! What becomes of an instance whose program has ended by itself: pure.

use crate::config::{Restart, RestartPolicy};
use eventplane_domain::{Reason, code};

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody saw it: the machine was started anew, or its keeper was killed.
    Unseen,
}

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is started again.
    Again {
        /// After so many milliseconds.
        wait_ms: u64,
        /// How often in a row it has crashed by then.
        crashes: u32,
    },
    /// It has ended, and says so.
    Over(Reason),
}

/// Decides. The wait doubles with each crash in a row; whoever ran calmly for long enough begins anew.
#[must_use]
pub(crate) fn after(end: End, ran_ms: i64, crashes: u32, policy: &Restart) -> Next {
    let starts_again = match policy.policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => end != End::Code(0),
        // That nobody saw its end is no end: it runs until its owner, or itself, ends it.
        RestartPolicy::Never => end == End::Unseen,
    };
    if !starts_again {
        let message = match end {
            End::Code(code) => format!("its program exited with code {code}"),
            End::Signal(signal) => format!("its program was ended by signal {signal}"),
            End::Unseen => unreachable!("what nobody saw end starts again"),
        };
        return Next::Over(Reason::new(code::INSTANCE_SHUTDOWN, message));
    }
    let was_calm = u64::try_from(ran_ms).is_ok_and(|ran| ran >= policy.calm_ms);
    let crashes = if was_calm { 0 } else { crashes };
    Next::Again { wait_ms: policy.wait_ms(crashes), crashes: crashes.saturating_add(1) }
}

impl Restart {
    /// How long to wait after so many crashes in a row, in milliseconds.
    pub(crate) fn wait_ms(&self, crashes: u32) -> u64 {
        self.first_ms.saturating_mul(1 << crashes.min(32)).min(self.longest_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(policy: RestartPolicy) -> Restart {
        Restart { policy, first_ms: 1_000, longest_ms: 5_000, calm_ms: 60_000, stop_grace_ms: 0 }
    }

    #[test]
    fn ends_case_by_case() {
        use RestartPolicy::{Always, Never, OnFailure};
        let over = |message: &str| Next::Over(Reason::new(code::INSTANCE_SHUTDOWN, message));
        let again = |wait_ms, crashes| Next::Again { wait_ms, crashes };
        for (end, ran_ms, crashes, of, next) in [
            (End::Code(0), 5, 0, OnFailure, over("its program exited with code 0")),
            (End::Code(3), 5, 0, OnFailure, again(1_000, 1)),
            (End::Code(3), 5, 1, OnFailure, again(2_000, 2)),
            (End::Code(3), 5, 3, OnFailure, again(5_000, 4)),
            (End::Code(3), 5, u32::MAX, OnFailure, again(5_000, u32::MAX)),
            (End::Code(3), 60_000, 3, OnFailure, again(1_000, 1)),
            (End::Code(3), -7, 3, OnFailure, again(5_000, 4)),
            (End::Signal(9), 5, 0, OnFailure, again(1_000, 1)),
            (End::Code(0), 5, 0, Always, again(1_000, 1)),
            (End::Code(3), 5, 0, Never, over("its program exited with code 3")),
            (End::Signal(9), 5, 0, Never, over("its program was ended by signal 9")),
            (End::Unseen, 5, 0, Never, again(1_000, 1)),
            (End::Unseen, 5, 0, OnFailure, again(1_000, 1)),
        ] {
            assert_eq!(after(end, ran_ms, crashes, &policy(of)), next, "{end:?} {crashes} {of:?}");
        }
    }
}
