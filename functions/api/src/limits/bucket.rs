//! Token buckets: how many may come at once, and how many a second after that.
//!
//! Source: "Request throttling for the Amazon EC2 API", EC2 developer guide.

use eventplane_domain::Millis;
use serde::Serialize;

/// A bucket's size, and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// How many tokens it holds.
    pub size: u32,
    /// How many come back in a second.
    pub per_s: u32,
}

/// A bucket as it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Thousandths of tokens: at one token a second one comes back each millisecond.
    pub(crate) milli: i64,
    /// Until when what has come back is in it.
    pub(crate) at: Millis,
}

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dry {
    /// There is enough after so many milliseconds, if nobody else takes it.
    For(i64),
    /// There never is: it is more than the bucket holds, or fills with.
    ForEver,
}

/// A bucket's moment that is further ahead of the clock than this, in milliseconds, was written by a
/// clock that was wrong. Nearer ones are waited for, so that clocks that differ do not fill a bucket
/// twice for the same time.
const CLOCKS_DIFFER_MS_MAX: i64 = 300_000;

impl Bucket {
    /// What is in it at `now`, after what has come back.
    pub(crate) fn filled(before: Option<Bucket>, rate: Rate, now: Millis) -> Bucket {
        let full = i64::from(rate.size) * 1000;
        let Some(Bucket { milli, at }) = before else { return Bucket { milli: full, at: now } };
        // A token a second is a thousandth a millisecond.
        let back = now.since(at).saturating_mul(i64::from(rate.per_s));
        let is_ahead = at.since(now) <= CLOCKS_DIFFER_MS_MAX;
        let at = if is_ahead { at.max(now) } else { now };
        Bucket { milli: milli.saturating_add(back).clamp(0, full), at }
    }
}

/// Takes `cost` tokens out of a bucket; one that nobody has used yet is full.
pub(crate) fn take(
    bucket: Option<Bucket>,
    rate: Rate,
    now: Millis,
    cost: u32,
) -> Result<Bucket, Dry> {
    let Bucket { milli, at } = Bucket::filled(bucket, rate, now);
    let left = milli - i64::from(cost) * 1000;
    if left >= 0 {
        return Ok(Bucket { milli: left, at });
    }
    if cost > rate.size || rate.per_s == 0 {
        return Err(Dry::ForEver);
    }
    let per_ms = i64::from(rate.per_s);
    Err(Dry::For(at.since(now) + (-left + per_ms - 1) / per_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUN: Rate = Rate { size: 5, per_s: 2 };

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_comes_back() {
        let left = |milli, at| Some(Bucket { milli, at: Millis(at) });
        for (bucket, now, cost, taken) in [
            (None, 1_000, 1, Ok((4_000, 1_000))),
            (None, 1_000, 5, Ok((0, 1_000))),
            (None, 1_000, 6, Err(Dry::ForEver)),
            (left(0, 1_000), 1_000, 0, Ok((0, 1_000))),
            (left(0, 1_000), 1_000, 1, Err(Dry::For(500))),
            (left(0, 1_000), 1_499, 1, Err(Dry::For(1))),
            (left(0, 1_000), 1_500, 1, Ok((0, 1_500))),
            (left(500, 1_000), 1_000, 2, Err(Dry::For(750))),
            (left(0, 1_000), 3_500, 5, Ok((0, 3_500))),
            // It holds no more than it holds, however long it was left alone.
            (left(0, 1_000), 1_000_000, 5, Ok((0, 1_000_000))),
            // A clock that is behind gets what is there, and nothing comes back twice.
            (left(1_000, 1_000), 400, 1, Ok((0, 1_000))),
            (left(0, 1_000), 400, 1, Err(Dry::For(1_100))),
            // One that was far ahead once does not close the bucket until then.
            (left(0, 900_000), 1_000, 1, Err(Dry::For(500))),
            // The bucket was larger once.
            (left(90_000, 1_000), 1_000, 5, Ok((0, 1_000))),
        ] {
            let right = taken.map(|(milli, at)| Bucket { milli, at: Millis(at) });
            assert_eq!(take(bucket, RUN, Millis(now), cost), right, "{bucket:?} {now} {cost}");
        }
        let never = Rate { size: 1, per_s: 0 };
        assert_eq!(take(left(0, 0), never, Millis(9), 1), Err(Dry::ForEver));
    }

    proptest! {
        /// Never more than the size and what comes back in the time that has passed, though clocks
        /// differ by minutes and jump back; and whoever waits as long as told is let in.
        #[test]
        fn no_more_is_given_than_the_rate_allows(
            size in 1_u32..50,
            per_s in 1_u32..20,
            asked in prop::collection::vec((-120_000_i64..120_000, 1_u32..6), 1..200),
        ) {
            let rate = Rate { size, per_s };
            let (mut bucket, mut given) = (None, 0_i64);
            let (mut first, mut last) = (i64::MAX, i64::MIN);
            for (step, (jitter, cost)) in asked.into_iter().enumerate() {
                let now = 1_000_000 + i64::try_from(step).unwrap() * 700 + jitter;
                (first, last) = (first.min(now), last.max(now));
                match take(bucket, rate, Millis(now), cost) {
                    Ok(after) => {
                        given += i64::from(cost);
                        bucket = Some(after);
                    }
                    Err(Dry::For(wait_ms)) => {
                        let then = Millis(now + wait_ms);
                        prop_assert!(take(bucket, rate, then, cost).is_ok());
                        let sooner = Millis(now + wait_ms - 1);
                        prop_assert!(take(bucket, rate, sooner, cost).is_err());
                    }
                    Err(Dry::ForEver) => prop_assert!(cost > size),
                }
                let most = i64::from(size) * 1000 + (last - first) * i64::from(per_s);
                prop_assert!(given * 1000 <= most, "{given} of {most}");
            }
        }
    }
}
