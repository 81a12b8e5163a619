//! How many requests of each kind a launch and a termination make.

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Write units, as DynamoDB bills them: of functions, of the api, and of the host's offer.
    WriteUnits,
    /// Items that these wrote.
    ItemsWritten,
    /// Transactions of one write or more.
    Transactions,
    /// Calls with which functions read.
    Reads,
    /// Half read units of these calls: a consistent read costs two for each started 4 KB, an
    /// eventual one costs one.
    ReadHalves,
    /// Events on the bus.
    Events,
    /// Messages that rules sent into inboxes.
    Messages,
    /// Messages that functions handled.
    Deliveries,
    /// Requests of queues: each message is sent, received and deleted by itself.
    QueueRequests,
    /// Write units of the user's request, which are among all of them.
    RequestWriteUnits,
    /// Calls with which the user's request reads.
    RequestReads,
    /// Half read units of these calls.
    RequestReadHalves,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What is counted.
    pub count: Count,
    /// Its name for people.
    pub what: &'static str,
    /// Of a launch to running: the least, which is exact, and the most on the average.
    pub launch: [u64; 2],
    /// Of a termination.
    pub termination: [u64; 2],
}

const fn row(count: Count, what: &'static str, launch: [u64; 2], termination: [u64; 2]) -> Row {
    Row { count, what, launch, termination }
}

/// What is counted, and what a launch to running and a termination may cost. A rise needs its reason
/// in the commit that makes it.
///
/// The first number of each pair is exact: what the cheapest of them costs while functions handle
/// one message at a time, so that no race is lost, on a host that stays in its class of room. The
/// second is the most that they may cost on the average while functions handle many at a time: two
/// of the three that join may look and decide again, and so may the five messages that change the
/// record when an instance ends (ten lost races, if all meet); an empty host often changes its class
/// (three items more). On 12 hosts: capacity reads each, 24 half units of a launch's.
pub const ROWS: [Row; 12] = [
    row(Count::WriteUnits, "write units, as DynamoDB bills them", [30, 42], [37, 53]),
    row(Count::ItemsWritten, "items written", [16, 19], [20, 23]),
    row(Count::Transactions, "transactions", [10, 13], [12, 22]),
    row(Count::Reads, "reads by functions", [12, 15], [16, 26]),
    row(Count::ReadHalves, "half read units of functions", [64, 76], [36, 66]),
    row(Count::Events, "events published", [7, 7], [8, 8]),
    row(Count::Messages, "messages into inboxes", [9, 9], [11, 11]),
    row(Count::Deliveries, "deliveries", [9, 9], [11, 11]),
    row(Count::QueueRequests, "requests of queues", [27, 27], [33, 33]),
    row(Count::RequestWriteUnits, "write units of the user's request", [4, 4], [1, 1]),
    row(Count::RequestReads, "reads by the user's request", [1, 1], [1, 1]),
    row(Count::RequestReadHalves, "half read units of the user's request", [2, 2], [14, 14]),
];

/// The least of a launch and of a termination.
#[must_use]
pub fn least(count: Count) -> [u64; 2] {
    let row = ROWS.iter().find(|row| row.count == count);
    row.map_or([0, 0], |row| [row.launch[0], row.termination[0]])
}

/// What a host's requests read, in half read units, and what its offers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCounts {
    /// A poll of a host that runs nothing.
    pub poll_read_halves: u64,
    /// A report of what has changed, without what its instances add.
    pub report_read_halves: u64,
    /// The same of a report of everything, by which a host is heard of.
    pub heartbeat_read_halves: u64,
    /// What each instance in a report adds.
    pub instance_read_halves: u64,
    /// Marking one assignment as offered, in write units; counted with the launch's.
    pub offer_write_units: u64,
}

/// What is counted of a host.
pub const HOST: HostCounts = HostCounts {
    poll_read_halves: 4,
    report_read_halves: 2,
    heartbeat_read_halves: 4,
    instance_read_halves: 4,
    offer_write_units: 1,
};

/// What an assignment adds to what a poll reads, at most; in bytes.
pub const ASSIGNMENT_BYTES: u64 = 1_024;
/// What one read unit pays for, in bytes.
///
/// Source: "DynamoDB read and write operations", DynamoDB developer guide.
pub const READ_UNIT_BYTES: u64 = 4_096;
/// How often a host asks while nothing is pending for it, and reports all that it sees.
pub const POLL_EVERY_S: u64 = 5;
/// See [`POLL_EVERY_S`].
pub const HEARTBEAT_EVERY_S: u64 = 30;
/// How often it is written that a host was heard of, each time one write unit.
pub const SEEN_EVERY_S: u64 = 60;
/// What the moment of one host adds to what a look at all of them reads, at most; in bytes.
pub const SEEN_BYTES: u64 = 128;
/// How many partitions such a look reads, and their watch; it writes one unit.
pub const SEEN_READS: u64 = 9;
/// How many inboxes functions listen to.
pub const INBOXES: u64 = 6;
/// How many partitions of an index a sweep reads.
pub const SWEEP_SHARDS: u64 = 8;
