//! What a bus can be told, and what it tells.

/// How a bus delivers.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// How many messages one function handles at a time.
    pub concurrency: usize,
    /// The longest wait before a message that could not be handled is delivered again, in
    /// milliseconds; its inbox's visibility timeout where that is shorter.
    pub backoff_ms_max: u64,
    /// How many of 100 messages are delivered twice, besides those that have to be.
    pub duplicates_percent: u8,
    /// Whether an inbox hands its messages out in any order rather than in that of their arrival.
    pub is_shuffled: bool,
    /// How many messages a second a function gets of those that waited while its breaker was open.
    pub drain_per_s: u32,
    /// What the order, the duplicates and the waits are drawn from.
    pub seed: u64,
}

/// How many messages a second leave a queue whose breaker was closed: a step that has just come back
/// is not to meet all that waited at once.
const DRAIN_PER_S: u32 = 50;

impl Default for BusOptions {
    fn default() -> Self {
        BusOptions {
            concurrency: 64,
            backoff_ms_max: 60_000,
            duplicates_percent: 0,
            is_shuffled: false,
            drain_per_s: DRAIN_PER_S,
            seed: 0,
        }
    }
}

/// What a bus has done since it was made, and what it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusStats {
    /// Events that it took.
    pub published: u64,
    /// Messages that it put into inboxes: one for each event and rule that matches it.
    pub sent: u64,
    /// Times that a function was handed a message.
    pub deliveries: u64,
    /// What SQS would count, without batches: a send, a receive and a delete for each message, and
    /// a receive for each delivery more.
    pub queue_requests: u64,
    /// By function.
    pub functions: Vec<FunctionStats>,
}

/// What a bus holds for one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionStats {
    /// The function.
    pub function: String,
    /// Messages that wait, those between two tries included.
    pub queued: usize,
    /// Messages that are being handled.
    pub in_flight: usize,
    /// Messages that became dead letters since the bus was made.
    pub dead: u64,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Why each of its deliveries fails, while it is broken on purpose.
    pub broken: Option<String>,
}
