//! The same launch as a chain of synchronous calls, and as Eventplane does it, under the same
//! faults in virtual time: what each loses, what it leaves behind, and how long its users hang.
//!
//! [`compare`] runs one fault against both kinds of chain (`caller`) and against the plane (`plane`).
//! Store, users, hosts, the pace of each step and the fault are the same for all three; one seed is
//! one history.

mod bus;
mod caller;
mod judge;
mod memory;
mod plane;
mod services;
mod table;
mod user;
mod weather;

pub use judge::Row;
pub use table::markdown;

use async_trait::async_trait;
use eventplane_domain::Millis;
use std::sync::Arc;
use tokio::runtime::Builder;

/// How many hosts there are, and what each has.
const HOSTS: usize = 4;
const HOST_VCPUS: u32 = 256;
/// How long a host takes to start an instance, in milliseconds.
const START_MS: u64 = 500;

fn host_id(host: usize) -> String {
    format!("host-{host}")
}
fn token(launch: usize) -> String {
    format!("launch-{launch}")
}
fn of_token(token: &str) -> Option<usize> {
    token.strip_prefix("launch-")?.parse().ok()
}

/// How many calls a step takes at once, and how long each takes, in milliseconds. Making a volume
/// is what takes long.
fn pace(step: &str) -> (usize, u64) {
    match step {
        "storage" => (4, 1_000),
        "host" => (64, 0),
        _ => (16, 40),
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each has its name in words")]
pub enum Fault {
    Nothing,
    StepThrottled,
    StepFailing,
    CallersCrash,
    AnswersLost,
    FifthFails,
    StoreGone,
    HostLost,
    Burst,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::Nothing,
        Fault::StepThrottled,
        Fault::StepFailing,
        Fault::CallersCrash,
        Fault::AnswersLost,
        Fault::FifthFails,
        Fault::StoreGone,
        Fault::HostLost,
        Fault::Burst,
    ];

    /// What it is, in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Nothing => "nothing",
            Fault::StepThrottled => "network throttled to zero for an hour",
            Fault::StepFailing => "storage failing for five minutes",
            Fault::CallersCrash => "callers crash every three seconds for five minutes",
            Fault::AnswersLost => "one call in ten not done and one done, both without an answer",
            Fault::FifthFails => "a fifth of all calls failing for five minutes",
            Fault::StoreGone => "the store gone for three hours",
            Fault::HostLost => "a host lost before it confirms",
            Fault::Burst => "20 times the launches for 30 seconds",
        }
    }

    /// How long, in milliseconds. A host that is lost is declared dead by its operator at the end.
    fn lasts_ms(self) -> u64 {
        match self {
            Fault::StepThrottled => 3_600_000,
            Fault::StoreGone => 3 * 3_600_000,
            Fault::Burst => 30_000,
            _ => 300_000,
        }
    }

    /// When the launches are asked for, in milliseconds: some just before the fault begins, and the
    /// others evenly while it lasts.
    fn launches_at_ms(self) -> Vec<u64> {
        let begins = weather::BEFORE_MS;
        // So that the host that is lost has never run anything.
        let before = if self == Fault::HostLost { 0 } else { 8 };
        let during = if self == Fault::Burst { 200 } else { 40 };
        let before = (1..=before).rev().map(|n| begins - n * 250);
        before.chain((0..during).map(|n| begins + n * self.lasts_ms() / during)).collect()
    }
}

/// Which control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A chain of calls.
    Chain,
    /// A chain of calls with retries, undo and tokens.
    CarefulChain,
    /// This one.
    Eventplane,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Chain, Kind::CarefulChain, Kind::Eventplane];

    /// Its name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chain => "chain",
            Kind::CarefulChain => "chain with retries and undo",
            Kind::Eventplane => "Eventplane",
        }
    }
}

/// What a user hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It runs, or it is taken on.
    Yes,
    /// It failed.
    No,
    /// Nothing, or that it may or may not have been done.
    Unknown,
}

/// How a launch is shown to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Pending,
    Running,
    Ended,
}

/// How a launch stands, in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stand {
    listed: Option<Listed>,
    /// How many of room, address, volume and credential it holds.
    held: usize,
    /// On how many hosts it runs.
    running: usize,
    /// Since when it is shown as running.
    since: Option<Millis>,
}

/// A control plane, as its users and its judge see it.
#[async_trait]
trait ControlPlane: Send + Sync {
    /// A user asks for a launch, by its token where there is such a thing.
    async fn ask(self: Arc<Self>, launch: usize) -> Answer;
    /// Whether asking again is asking once.
    fn knows_tokens(&self) -> bool;
    /// The operator's word.
    async fn host_is_dead(&self, host: &str);
    /// Whether anything is done without being asked: what is not well when nothing is under way
    /// stays so otherwise.
    fn sweeps(&self) -> bool;
    /// How so many launches stand, those included that were never heard of.
    fn stands(&self, launches: usize) -> Vec<Stand>;
}

/// Runs one fault against one kind of control plane, in virtual time.
///
/// # Panics
/// When there is no runtime to be had.
#[must_use]
pub fn run(kind: Kind, fault: Fault, seed: u64) -> Row {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(judge::history(kind, fault, seed))
}

/// Runs one fault against all kinds.
#[must_use]
pub fn compare(fault: Fault, seed: u64) -> Vec<Row> {
    Kind::ALL.iter().map(|kind| run(*kind, fault, seed)).collect()
}
