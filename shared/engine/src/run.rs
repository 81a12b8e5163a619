//! The loop: look, decide, commit, publish.

use crate::{Dice, Fault, Origin, Ports, stamp};
use async_trait::async_trait;
use eventplane_domain::{Millis, Mutant, planted};
use eventplane_events::{Data, Event, Unreadable, read};
use eventplane_store::{Failed, FaultKind, Store, TransactError, Write};
use thiserror::Error;
use tracing::{debug, warn};

/// How often a step looks and decides for one message before it gives the message back.
pub const TRIES_MAX: usize = 24;

/// What a step may see while it looks.
pub struct Look<'a> {
    /// The store, for reading.
    pub store: &'a dyn Store,
    /// The present moment.
    pub now: Millis,
    /// Chance for choosing where to look.
    pub dice: &'a mut Dice,
    /// What the last try lost to: the items that stand there instead. Empty on the first try.
    pub lost: &'a [Failed],
}

/// What a decision may use besides the event and the facts.
#[derive(Debug)]
pub struct Moment<'a> {
    /// The present moment.
    pub now: Millis,
    /// How often the event was delivered, this time included.
    pub received: u32,
    /// Chance for choosing.
    pub dice: &'a mut Dice,
}

impl Moment<'_> {
    /// What a receipt notes of the moment.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        Delivery { now: self.now, received: self.received }
    }
}

/// When an event was delivered, and for which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Delivery {
    pub now: Millis,
    pub received: u32,
}

/// The first delivery.
impl From<Millis> for Delivery {
    fn from(now: Millis) -> Self {
        Delivery { now, received: 1 }
    }
}

/// An event that a decision publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit {
    /// What has happened.
    pub data: Data,
    /// To which generation.
    pub generation: u32,
    /// That generation's deadline.
    pub deadline: Millis,
}

impl Emit {
    /// Of the same generation as its cause.
    #[must_use]
    pub fn of(cause: &Event, data: Data) -> Self {
        Emit { data, generation: cause.metadata.generation, deadline: cause.metadata.deadline }
    }
}

/// What a step does about an event: writes, all or none, and then events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// What becomes durable first; empty when all of it already is.
    pub writes: Vec<Write>,
    /// What is published then.
    pub events: Vec<Emit>,
}

impl Decision {
    /// The event changes nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Decision::default()
    }
    /// What is recorded is published again.
    #[must_use]
    pub fn publish(events: Vec<Emit>) -> Self {
        Decision { writes: vec![], events }
    }
    /// These writes, then these events.
    #[must_use]
    pub fn commit(writes: Vec<Write>, events: Vec<Emit>) -> Self {
        Decision { writes, events }
    }
}

/// A step: what it looks at, and what it decides.
#[async_trait]
pub trait Step: Send + Sync {
    /// What it has to know to decide.
    type Facts: Send + Sync;

    /// The function's name, as in its events' source.
    fn name(&self) -> &'static str;

    /// Gathers the facts: the only part that may wait.
    ///
    /// # Errors
    /// A fault, when the facts are not to be had now.
    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Self::Facts, Fault>;

    /// Decides: pure, and total.
    fn decide(&self, event: &Event, facts: &Self::Facts, moment: Moment<'_>) -> Decision;
}

/// Why a message was not handled.
#[derive(Debug, Error)]
pub enum Failure {
    /// It may be handled later: deliver it again.
    #[error(transparent)]
    Retry(#[from] Fault),
    /// It never can be: set it aside with the reason.
    #[error(transparent)]
    SetAside(#[from] Unreadable),
}

/// Whoever handles messages: a function with its world.
#[async_trait]
pub trait Handler: Send + Sync {
    /// The function's name.
    fn name(&self) -> &'static str;
    /// Handles one message, an event in its envelope, that was delivered so often, this time
    /// included. Handling it again does no harm.
    ///
    /// # Errors
    /// [`Failure`] says whether to deliver it again or to set it aside.
    async fn deliver(&self, message: &str, received: u32) -> Result<(), Failure>;
    /// Handles a message that is delivered for the first time.
    ///
    /// # Errors
    /// As [`Handler::deliver`].
    async fn handle(&self, message: &str) -> Result<(), Failure> {
        self.deliver(message, 1).await
    }
}

/// A step in its world.
pub struct Function<S> {
    step: S,
    ports: Ports,
}

impl<S: Step> Function<S> {
    /// `step`, run on `ports`.
    pub fn new(step: S, ports: Ports) -> Self {
        Function { step, ports }
    }

    async fn run(&self, event: &Event, received: u32) -> Result<(), Fault> {
        let mut dice = Dice::new(self.ports.chance.draw());
        let mut lost: Vec<Failed> = Vec::new();
        for _ in 0..TRIES_MAX {
            let now = self.ports.clock.now();
            let store = &*self.ports.store;
            let look = Look { store, now, dice: &mut dice, lost: &lost };
            let facts = self.step.look(event, look).await?;
            let Decision { writes, events } =
                self.step.decide(event, &facts, Moment { now, received, dice: &mut dice });
            if !writes.is_empty() {
                match store.transact(writes).await {
                    Ok(()) => {}
                    Err(TransactError::ConditionFailed(_))
                        if planted(Mutant::LossTakenForOwnWin) => {}
                    Err(TransactError::ConditionFailed(failed)) => {
                        debug!(step = self.step.name(), lost = %failed[0].key, "lost a race");
                        lost = failed;
                        continue;
                    }
                    Err(TransactError::Fault(fault))
                        if planted(Mutant::OwnWinTakenForALoss)
                            && matches!(fault.kind, FaultKind::OutcomeUnknown) =>
                    {
                        return Ok(());
                    }
                    Err(TransactError::Fault(fault)) => return Err(fault.into()),
                }
            }
            return self.publish(event, events).await;
        }
        let contended = lost.first().map_or_else(String::new, |failed| failed.key.to_string());
        Err(Fault::Contention { tries: TRIES_MAX, contended })
    }

    async fn publish(&self, cause: &Event, events: Vec<Emit>) -> Result<(), Fault> {
        if events.is_empty() {
            return Ok(());
        }
        let origin = Origin::Caused(&cause.metadata);
        let entries = events
            .into_iter()
            .map(|emit| stamp(&self.ports, self.step.name(), &origin, emit).entry())
            .collect();
        match self.ports.bus.publish(entries).await {
            Err(fault) if planted(Mutant::AcknowledgeBeforePublish) => {
                warn!(step = self.step.name(), %fault, "not published");
                Ok(())
            }
            Err(Fault::Publish { .. }) if planted(Mutant::FailedEntryCountIgnored) => Ok(()),
            published => published,
        }
    }
}

#[async_trait]
impl<S: Step> Handler for Function<S> {
    fn name(&self) -> &'static str {
        self.step.name()
    }

    async fn deliver(&self, message: &str, received: u32) -> Result<(), Failure> {
        let event = match read(message) {
            Err(unreadable) if planted(Mutant::PoisonThrown) => {
                return Err(Failure::Retry(Fault::Other(unreadable.to_string())));
            }
            read => read?,
        };
        self.run(&event, received).await.map_err(|fault| {
            let Event { metadata, data } = &event;
            warn!(step = self.step.name(), instance = %metadata.subject, event = data.name(),
                correlation = metadata.correlationid, %fault, "not handled now");
            Failure::Retry(fault)
        })
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
