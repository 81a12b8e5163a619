//! Bugs that can be planted to test the tests: each of them has to be found by the simulation.
//!
//! A bug stands where the production code would have it, as one condition on [`planted`]. Without
//! the feature `mutants`, which only the tests turn on, that is the constant `false`, and nothing of
//! it remains in what ships.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "`bug` says what each of them is")]
pub enum Mutant {
    UnconditionalLease,
    GenerationCheckDropped,
    TombstoneDropped,
    RedeliverySwallowsPublish,
    FailedEntryCountIgnored,
    AcknowledgeBeforePublish,
    AcknowledgeAllWhenSomeFailed,
    HandoffJoinsAfterItsFence,
    GiveBackBeforeLetGo,
    DoubleCredit,
    GiveBackWithoutOwnerCheck,
    CounterOutsideItsCondition,
    OwnWinTakenForALoss,
    LossTakenForOwnWin,
    SweeperWithoutConditionalBump,
    DeadlineAgainstSkewedClock,
    CredentialVersionNotRaised,
    ClientTokenInASeparateRequest,
    PoisonThrown,
    TerminateDuringLaunchIgnored,
    StaleGenerationAccepted,
    JoinForgetsOne,
    WithdrawnAlthoughOffered,
    LateLaunchFailedHonoured,
    StopGivesBackMore,
    TerminationDroppedAsStale,
    TombstonePerGeneration,
    RefusalForgetsTheClaim,
    SweeperNudgesOnlyRequests,
}

/// Each with its name and its bug, in the order of the enum.
const MUTANTS: [(Mutant, &str, &str); Mutant::ALL.len()] = [
    (
        Mutant::UnconditionalLease,
        "unconditional-lease",
        "network leases a slot without asking whether it is still free",
    ),
    (
        Mutant::GenerationCheckDropped,
        "generation-check-dropped",
        "a receipt is written without asking whether its generation is still the one that was read",
    ),
    (
        Mutant::TombstoneDropped,
        "tombstone-dropped",
        "a give-back that finds nothing to give back records nothing, so that a late take takes",
    ),
    (
        Mutant::RedeliverySwallowsPublish,
        "redelivery-swallows-publish",
        "an event whose answer is recorded is done with: the answer is not published again",
    ),
    (
        Mutant::FailedEntryCountIgnored,
        "failed-entry-count-ignored",
        "what the bus answers is not looked at: entries that it did not take count as published",
    ),
    (
        Mutant::AcknowledgeBeforePublish,
        "acknowledge-before-publish",
        "a message is done once it is committed: a publication that fails is only logged; doors: nor \
         does a worker that dies after its commit get the message again",
    ),
    (
        Mutant::AcknowledgeAllWhenSomeFailed,
        "acknowledge-all-when-some-failed",
        "doors: a batch in which some messages failed is acknowledged whole",
    ),
    (
        Mutant::HandoffJoinsAfterItsFence,
        "handoff-joins-after-its-fence",
        "a part that comes after its generation was withdrawn begins to join anew",
    ),
    (
        Mutant::GiveBackBeforeLetGo,
        "give-back-before-let-go",
        "handoff withdraws what its host has been offered without waiting for the promise",
    ),
    (
        Mutant::DoubleCredit,
        "double-credit",
        "a give-back is written without asking whether another one was: both return the room",
    ),
    (
        Mutant::GiveBackWithoutOwnerCheck,
        "give-back-without-owner-check",
        "a give-back returns what a newer generation has taken since",
    ),
    (
        Mutant::CounterOutsideItsCondition,
        "counter-outside-its-condition",
        "capacity takes room of a host without asking whether it is still free",
    ),
    (
        Mutant::OwnWinTakenForALoss,
        "own-win-taken-for-a-loss",
        "a commit whose answer was lost is taken for another's: nothing is published and the message is done",
    ),
    (
        Mutant::LossTakenForOwnWin,
        "loss-taken-for-own-win",
        "a condition that fails is taken for an earlier success of one's own: the events are published",
    ),
    (
        Mutant::SweeperWithoutConditionalBump,
        "sweeper-without-conditional-bump",
        "the sweeper moves an item's next nudge on without asking whether it was changed meanwhile",
    ),
    (
        Mutant::DeadlineAgainstSkewedClock,
        "deadline-against-skewed-clock",
        "past the deadline by its own clock, handoff counts on the host to have let go by the host's",
    ),
    (
        Mutant::CredentialVersionNotRaised,
        "credential-version-not-raised",
        "security gives every generation the version of the first",
    ),
    (
        Mutant::ClientTokenInASeparateRequest,
        "client-token-in-a-separate-request",
        "the client token is written in a request of its own, after the records",
    ),
    (
        Mutant::PoisonThrown,
        "poison-thrown",
        "a message that cannot be read is retried instead of set aside",
    ),
    (
        Mutant::TerminateDuringLaunchIgnored,
        "terminate-during-launch-ignored",
        "handoff ignores a termination of what is not handed off yet",
    ),
    (
        Mutant::StaleGenerationAccepted,
        "stale-generation-accepted",
        "a take of an older generation is decided as if it were the newest",
    ),
    (
        Mutant::JoinForgetsOne,
        "join-forgets-one",
        "a part joins without asking which others have come since: no join sees all three",
    ),
    (
        Mutant::WithdrawnAlthoughOffered,
        "withdrawn-although-offered",
        "an assignment is removed without asking whether it has been offered since it was read",
    ),
    (
        Mutant::LateLaunchFailedHonoured,
        "late-launch-failed-honoured",
        "a LaunchFailed that comes after the handoff, or of an older generation, still withdraws",
    ),
    (
        Mutant::StopGivesBackMore,
        "stop-gives-back-more",
        "every step gives back when an instance is stopped, and not only capacity",
    ),
    (
        Mutant::TerminationDroppedAsStale,
        "termination-dropped-as-stale",
        "a termination of an older generation than the recorded one is dropped",
    ),
    (
        Mutant::TombstonePerGeneration,
        "tombstone-per-generation",
        "what was given back for good is ruled like what only its generation has given back",
    ),
    (
        Mutant::RefusalForgetsTheClaim,
        "refusal-forgets-the-claim",
        "a refusal records nothing of what an older generation holds",
    ),
    (
        Mutant::SweeperNudgesOnlyRequests,
        "sweeper-nudges-only-requests",
        "the sweeper publishes InstanceRequested whatever the instance waits for",
    ),
];

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 29] = [
        Mutant::UnconditionalLease,
        Mutant::GenerationCheckDropped,
        Mutant::TombstoneDropped,
        Mutant::RedeliverySwallowsPublish,
        Mutant::FailedEntryCountIgnored,
        Mutant::AcknowledgeBeforePublish,
        Mutant::AcknowledgeAllWhenSomeFailed,
        Mutant::HandoffJoinsAfterItsFence,
        Mutant::GiveBackBeforeLetGo,
        Mutant::DoubleCredit,
        Mutant::GiveBackWithoutOwnerCheck,
        Mutant::CounterOutsideItsCondition,
        Mutant::OwnWinTakenForALoss,
        Mutant::LossTakenForOwnWin,
        Mutant::SweeperWithoutConditionalBump,
        Mutant::DeadlineAgainstSkewedClock,
        Mutant::CredentialVersionNotRaised,
        Mutant::ClientTokenInASeparateRequest,
        Mutant::PoisonThrown,
        Mutant::TerminateDuringLaunchIgnored,
        Mutant::StaleGenerationAccepted,
        Mutant::JoinForgetsOne,
        Mutant::WithdrawnAlthoughOffered,
        Mutant::LateLaunchFailedHonoured,
        Mutant::StopGivesBackMore,
        Mutant::TerminationDroppedAsStale,
        Mutant::TombstonePerGeneration,
        Mutant::RefusalForgetsTheClaim,
        Mutant::SweeperNudgesOnlyRequests,
    ];

    /// The name that it is chosen by.
    #[must_use]
    pub fn name(self) -> &'static str {
        MUTANTS[self as usize].1
    }

    /// The bug. What follows `doors:` is not in this code but in how it is served: the simulation's
    /// own doors have it.
    #[must_use]
    pub fn bug(self) -> &'static str {
        MUTANTS[self as usize].2
    }

    /// The mutant of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants this bug, or none, in all that this thread does from now on.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

/// Whether this bug is planted in what this thread does.
#[cfg(feature = "mutants")]
#[must_use]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether this bug is planted: never, in what ships. The condition on it is gone when it is
/// compiled.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn planted(_: Mutant) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_is_found_by_its_name_and_says_what_it_is() {
        for (place, mutant) in Mutant::ALL.into_iter().enumerate() {
            assert_eq!(MUTANTS[place].0, mutant, "the table is in the order of the enum");
            assert_eq!(Mutant::of_name(mutant.name()), Some(mutant));
            assert!(!mutant.bug().is_empty());
        }
        assert_eq!(Mutant::of_name("no-such-bug"), None);
    }

    #[test]
    #[cfg(feature = "mutants")]
    fn a_bug_is_planted_in_one_thread_alone() {
        plant(Some(Mutant::DoubleCredit));
        assert!(planted(Mutant::DoubleCredit) && !planted(Mutant::PoisonThrown));
        let elsewhere = std::thread::spawn(|| planted(Mutant::DoubleCredit));
        assert!(!elsewhere.join().expect("no panic"));
        plant(None);
        assert!(!planted(Mutant::DoubleCredit));
    }

    #[test]
    #[cfg(not(feature = "mutants"))]
    fn nothing_is_planted_in_what_ships() {
        assert!(Mutant::ALL.into_iter().all(|mutant| !planted(mutant)));
    }
}
