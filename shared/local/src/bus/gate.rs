//! A breaker as its queue sees it: whether the next message may leave now. Pure: the time is handed
//! in.

use std::time::Duration;
use tokio::time::Instant;

/// What lets messages out of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Every message may leave.
    Closed,
    /// None may.
    Open,
    /// What had waited leaves at a limited rate; then every message may.
    Draining {
        /// How many are still to leave at that rate.
        left: usize,
        /// When the next one may.
        next: Instant,
        /// How long it is from one to the next.
        gap: Duration,
    },
}

impl Gate {
    /// After the breaker was closed over `waiting` messages: at most `per_s` of them leave in a
    /// second.
    pub(super) fn close(self, waiting: usize, per_s: u32, now: Instant) -> Gate {
        match (self, waiting) {
            (Gate::Open, 1..) => {
                let gap = Duration::from_secs(1) / per_s.max(1);
                Gate::Draining { left: waiting, next: now, gap }
            }
            (Gate::Open, 0) => Gate::Closed,
            (closed, _) => closed,
        }
    }

    /// How many messages may leave at `now`.
    pub(super) fn lets_out(self, now: Instant) -> usize {
        match self {
            Gate::Closed => usize::MAX,
            Gate::Draining { next, .. } if next <= now => 1,
            Gate::Draining { .. } | Gate::Open => 0,
        }
    }

    /// After one message has left at `now`.
    pub(super) fn after_one(self, now: Instant) -> Gate {
        match self {
            Gate::Draining { left: left @ 2.., gap, .. } => {
                Gate::Draining { left: left - 1, next: now + gap, gap }
            }
            Gate::Draining { .. } => Gate::Closed,
            other => other,
        }
    }

    /// The moment after `now` at which it lets out more than it does at `now`.
    pub(super) fn next(self, now: Instant) -> Option<Instant> {
        match self {
            Gate::Draining { next, .. } if next > now => Some(next),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_leaves_at_the_rate_and_then_everything_at_once() {
        let begun = Instant::now();
        let ms = |ms: u64| begun + Duration::from_millis(ms);
        let mut gate = Gate::Open.close(3, 10, begun);
        for (at, may, next) in [(0, 1, None), (0, 0, Some(100)), (99, 0, Some(100))] {
            assert_eq!(gate.lets_out(ms(at)), may, "at {at} ms");
            assert_eq!(gate.next(ms(at)), next.map(ms), "at {at} ms");
            if may > 0 {
                gate = gate.after_one(ms(at));
            }
        }
        // Late is late: the next one waits as long as any.
        gate = gate.after_one(ms(150));
        assert_eq!((gate.lets_out(ms(249)), gate.lets_out(ms(250))), (0, 1));
        assert_eq!(gate.after_one(ms(250)), Gate::Closed);
    }

    #[test]
    fn a_gate_changes_only_as_its_breaker_does() {
        let now = Instant::now();
        let draining = Gate::Open.close(2, 1, now);
        for (gate, lets_out, closed, after_one) in [
            (Gate::Closed, usize::MAX, Gate::Closed, Gate::Closed),
            (Gate::Open, 0, draining, Gate::Open),
            (
                draining,
                1,
                draining,
                Gate::Draining {
                    left: 1,
                    next: now + Duration::from_secs(1),
                    gap: Duration::from_secs(1),
                },
            ),
        ] {
            assert_eq!(gate.lets_out(now), lets_out, "{gate:?}");
            assert_eq!(gate.close(2, 1, now), closed, "{gate:?}");
            assert_eq!(gate.after_one(now), after_one, "{gate:?}");
        }
        assert_eq!(Gate::Open.close(0, 1, now), Gate::Closed, "nothing has waited");
    }
}
