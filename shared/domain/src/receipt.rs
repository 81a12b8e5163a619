//! The law of receipts: what a step has to do with a request, given what it has recorded.
//!
//! Every step that takes something has one receipt per instance: the newest generation and its
//! answer. This page is the whole law; each step asks it first.

use crate::{Millis, Mutant, planted};

/// What a step has answered for an instance's newest generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It took what was asked for.
    Taken,
    /// It refused, with a reason.
    Refused,
    /// It gave back what this generation held; a newer generation may take again.
    GivenBack,
    /// It gave back everything, and nothing is ever taken again for this instance.
    GivenBackForGood,
}

impl Answer {
    /// The answer as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Answer::Taken => "taken",
            Answer::Refused => "refused",
            Answer::GivenBack => "given back",
            Answer::GivenBackForGood => "given back for good",
        }
    }
    /// The answer of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Answer> {
        [Answer::Taken, Answer::Refused, Answer::GivenBack, Answer::GivenBackForGood]
            .into_iter()
            .find(|answer| answer.name() == name)
    }
}

/// What a step is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Take what this generation needs, before its deadline.
    Take {
        /// The generation.
        generation: u32,
        /// When the generation has to run.
        deadline: Millis,
    },
    /// Give back what generations up to this one hold.
    GiveBack {
        /// The generation that was withdrawn.
        generation: u32,
    },
    /// Give back everything, for every generation: a termination has none and is never stale.
    GiveBackForGood,
}

/// What the law says to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Nothing is recorded for this generation: decide, and record it. What an older generation
    /// holds is still held.
    Decide,
    /// The generation's time is over: refuse, and record it. Never drop it silently.
    RefuseLate,
    /// Give back what is held, if anything, and record it; answer also if nothing was held.
    GiveBack,
    /// It is recorded: publish the recorded answer again, in case it was lost.
    Repeat,
    /// It is of an older generation than what is recorded: do nothing.
    Stale,
}

/// Rules on a request, given the recorded generation and answer.
#[must_use]
pub fn rule(recorded: Option<(u32, Answer)>, ask: Ask, now: Millis) -> Ruling {
    match (recorded, ask) {
        (Some((_, Answer::GivenBackForGood)), _) if !planted(Mutant::TombstonePerGeneration) => {
            Ruling::Repeat
        }
        (_, Ask::GiveBackForGood) => Ruling::GiveBack,
        (Some((newest, _)), Ask::Take { generation, .. })
            if newest > generation && !planted(Mutant::StaleGenerationAccepted) =>
        {
            Ruling::Stale
        }
        (Some((newest, _)), Ask::Take { generation, .. }) if newest == generation => Ruling::Repeat,
        (_, Ask::Take { deadline, .. }) if now > deadline => Ruling::RefuseLate,
        (_, Ask::Take { .. }) => Ruling::Decide,
        (Some((newest, _)), Ask::GiveBack { generation })
            if newest > generation && !planted(Mutant::GiveBackWithoutOwnerCheck) =>
        {
            Ruling::Stale
        }
        (Some((newest, Answer::GivenBack)), Ask::GiveBack { generation })
            if newest == generation =>
        {
            Ruling::Repeat
        }
        (_, Ask::GiveBack { .. }) => Ruling::GiveBack,
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer::*, Ruling::*, *};

    fn take(generation: u32) -> Ask {
        Ask::Take { generation, deadline: Millis(100) }
    }
    fn back(generation: u32) -> Ask {
        Ask::GiveBack { generation }
    }

    #[test]
    fn every_answer_is_found_by_its_name() {
        let all = [Taken, Refused, GivenBack, GivenBackForGood];
        let names = ["taken", "refused", "given back", "given back for good"];
        assert_eq!(all.map(Answer::name), names);
        assert_eq!(names.map(Answer::of_name), all.map(Some));
        assert_eq!(Answer::of_name("lost"), None);
    }

    #[test]
    fn the_law_of_receipts_case_by_case() {
        let now = Millis(50);
        for (recorded, ask, ruling) in [
            // the first thing ever heard
            (None, take(1), Decide),
            (None, back(1), GiveBack),
            (None, Ask::GiveBackForGood, GiveBack),
            // once more the same
            (Some((1, Taken)), take(1), Repeat),
            (Some((1, Refused)), take(1), Repeat),
            (Some((1, GivenBack)), back(1), Repeat),
            (Some((3, GivenBackForGood)), Ask::GiveBackForGood, Repeat),
            // a give-back before its take: the late take is answered with the tombstone
            (Some((1, GivenBack)), take(1), Repeat),
            (Some((1, GivenBackForGood)), take(1), Repeat),
            (Some((1, GivenBackForGood)), take(2), Repeat),
            (Some((1, GivenBackForGood)), back(2), Repeat),
            // undo
            (Some((1, Taken)), back(1), GiveBack),
            (Some((1, Refused)), back(1), GiveBack),
            (Some((1, Taken)), back(2), GiveBack),
            (Some((1, GivenBack)), back(2), GiveBack),
            (Some((2, Taken)), Ask::GiveBackForGood, GiveBack),
            (Some((1, GivenBack)), Ask::GiveBackForGood, GiveBack),
            // generations
            (Some((1, Taken)), take(2), Decide),
            (Some((1, Refused)), take(2), Decide),
            (Some((1, GivenBack)), take(2), Decide),
            (Some((2, Taken)), take(1), Stale),
            (Some((2, Taken)), back(1), Stale),
            (Some((2, Refused)), back(1), Stale),
        ] {
            assert_eq!(rule(recorded, ask, now), ruling, "{recorded:?} asked {ask:?}");
        }
    }

    #[test]
    fn what_is_new_after_the_deadline_is_refused_and_what_is_recorded_is_repeated() {
        let late = Millis(101);
        assert_eq!(rule(None, take(1), late), RefuseLate);
        assert_eq!(rule(Some((1, Taken)), take(2), late), RefuseLate);
        assert_eq!(rule(Some((1, Taken)), take(1), late), Repeat);
        assert_eq!(rule(Some((1, Taken)), back(1), late), GiveBack);
        assert_eq!(rule(None, take(1), Millis(100)), Decide);
    }
}
