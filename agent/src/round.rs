//! One simulated host: asking, starting, stopping and reporting. What to do is [`Host`]'s to say.

use crate::fleet::FleetOptions;
use crate::host::{Action, Host};
use crate::journal::Journal;
use crate::transport::{Answer, Method, NoAnswer, Transport};
use crate::wire::{Assignments, InstanceKey, Registration, Report};
use eventplane_domain::Millis;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

/// The first wait after a request that failed; doubled with each failure in a row.
const BACKOFF_MS: u64 = 100;
/// The longest wait after a request that failed.
const BACKOFF_MS_MAX: u64 = 5_000;
/// How long past the wait that was asked for an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// An answer that took this long was waited for.
const WAITED: Duration = Duration::from_secs(1);
/// Starts that end within this many milliseconds are reported together.
const TOGETHER_MS: u64 = 4;
/// The most instances in one report; more go in several, none of which is complete. Bodies are
/// limited to 64 KiB.
const REPORT_INSTANCES_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) polls: AtomicUsize,
    pub(crate) reports: AtomicUsize,
    pub(crate) started: AtomicUsize,
    pub(crate) stopped: AtomicUsize,
    pub(crate) rebooted: AtomicUsize,
    pub(crate) failed: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all hosts of a fleet share.
pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) journal: Option<Journal>,
    pub(crate) registering: Semaphore,
    pub(crate) registered: watch::Sender<usize>,
    pub(crate) counts: Counts,
    pub(crate) options: FleetOptions,
}

type Poll = Pin<Box<dyn Future<Output = (Asked, Result<Answer, NoAnswer>)> + Send>>;

/// A question for the wanted set.
struct Asked {
    /// When it was sent.
    at: Instant,
    /// How long the plane was asked to wait for news, in seconds.
    wait_s: u64,
}

/// One host.
pub(crate) struct HostLoop {
    id: String,
    registration: Registration,
    host: Host,
    shared: Arc<Shared>,
    chance: u64,
    /// Starts under way, by when they end.
    starts: BTreeMap<(Instant, InstanceKey), u32>,
    heartbeat: Instant,
    /// After a report that was not taken: when to try again.
    report_after: Option<Instant>,
    failures: u32,
    /// Whether the plane holds an answer back until there is news, as far as is known.
    plane_waits: bool,
}

impl HostLoop {
    pub(crate) fn new(
        registration: Registration,
        host: Host,
        shared: Arc<Shared>,
        seed: u64,
    ) -> Self {
        HostLoop {
            id: registration.host_id.clone(),
            registration,
            host,
            shared,
            chance: seed,
            starts: BTreeMap::new(),
            heartbeat: Instant::now(),
            report_after: None,
            failures: 0,
            plane_waits: true,
        }
    }

    /// Runs the host until it is told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.live() => {}
        }
    }

    async fn live(&mut self) {
        self.register().await;
        self.shared.registered.send_modify(|count| *count += 1);
        // The first heartbeats of a fleet are spread over one interval.
        let interval = self.shared.options.heartbeat_ms;
        self.heartbeat = Instant::now() + Duration::from_millis(self.below(interval) + 1);
        let mut poll = self.poll(Instant::now(), 0);
        loop {
            tokio::select! {
                (asked, answer) = &mut poll => {
                    let next = self.on_answer(asked, answer).await;
                    poll = self.poll(next, self.shared.options.wait_s);
                }
                () = sleep_until(self.next_alarm()) => self.on_alarm(),
            }
            self.remember();
            self.report().await;
        }
    }

    async fn register(&mut self) {
        let body = serde_json::to_vec(&self.registration).expect("plain data");
        let shared = self.shared.clone();
        let mut failures = 0;
        loop {
            {
                let turn = shared.registering.acquire().await;
                let sent = shared.transport.send(Method::POST, "/v1/hosts", Some(body.clone()));
                let answer = tokio::time::timeout(PATIENCE, sent).await;
                let answer =
                    answer.unwrap_or_else(|_| Err(NoAnswer::lost("no answer in time".to_owned())));
                drop(turn);
                match answer {
                    Ok(answer) if answer.is_success() => return,
                    other => self.complain("register", &other),
                }
            }
            failures += 1;
            let wait = self.backoff(failures);
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for the wanted set at `when`.
    fn poll(&self, when: Instant, wait_s: u64) -> Poll {
        let (shared, revision) = (self.shared.clone(), self.host.revision());
        let path = format!("/v1/hosts/{}/assignments?after={revision}&wait={wait_s}", self.id);
        Box::pin(async move {
            sleep_until(when).await;
            count(&shared.counts.polls);
            let asked = Asked { at: Instant::now(), wait_s };
            let sent = shared.transport.send(Method::GET, &path, None);
            let patience = PATIENCE + Duration::from_secs(wait_s);
            let answer = tokio::time::timeout(patience, sent).await;
            (asked, answer.unwrap_or_else(|_| Err(NoAnswer::lost("no answer in time".to_owned()))))
        })
    }

    /// Acts on an answer, and says when to ask next.
    async fn on_answer(&mut self, asked: Asked, answer: Result<Answer, NoAnswer>) -> Instant {
        let set = match &answer {
            Ok(good) if good.is_success() => good.json::<Assignments>(),
            Ok(unknown) if unknown.status == 404 => {
                self.complain("ask for assignments", &answer);
                self.host.on_unknown();
                self.register().await;
                // Registered and still unknown is no reason to ask without end.
                self.failures += 1;
                return Instant::now() + self.backoff(self.failures);
            }
            failed => {
                self.complain("ask for assignments", failed);
                self.failures += 1;
                return Instant::now() + self.backoff(self.failures);
            }
        };
        let set = match set {
            Ok(set) => set,
            Err(error) => {
                warn!(host = self.id, %error, "the wanted set cannot be read");
                self.failures += 1;
                return Instant::now() + self.backoff(self.failures);
            }
        };
        self.failures = 0;
        let before = self.host.revision();
        let actions = self.host.on_wanted(&set, now());
        // Durable before anything is done about it.
        self.remember();
        self.act(actions);
        self.learn_whether_it_waits(&asked, set.revision == before);
        let gap = Duration::from_millis(self.shared.options.poll_gap_ms);
        let after = Duration::from_millis(if self.plane_waits { 0 } else { set.poll_after_ms });
        Instant::now() + after.max(gap)
    }

    /// A plane that waits answers at once when there is news; one that does not, as on Lambda, also
    /// when there is none, and says how soon to ask again.
    fn learn_whether_it_waits(&mut self, asked: &Asked, nothing_new: bool) {
        let took = asked.at.elapsed();
        if took >= WAITED {
            self.plane_waits = true;
        } else if nothing_new && took < Duration::from_millis(asked.wait_s * 500) {
            self.plane_waits = false;
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        let begun = Instant::now();
        for action in actions {
            match action {
                Action::Stop(key, generation) => {
                    debug!(host = self.id, instance = %key.instance_id, generation, "stopped");
                    self.starts.retain(|(_, starting), of| *starting != key || *of > generation);
                    count(&self.shared.counts.stopped);
                }
                Action::Reboot(key, generation) => {
                    debug!(host = self.id, instance = %key.instance_id, generation, "rebooted");
                    count(&self.shared.counts.rebooted);
                }
                Action::Start(key, generation) => {
                    let (from, to) = self.shared.options.start_ms;
                    let takes = from + self.below(to.saturating_sub(from) + 1);
                    let takes = takes.next_multiple_of(TOGETHER_MS);
                    self.starts.insert((begun + Duration::from_millis(takes), key), generation);
                }
            }
        }
        self.finish_starts();
    }

    fn finish_starts(&mut self) {
        let now = Instant::now();
        while let Some(((due, _), _)) = self.starts.first_key_value() {
            if *due > now {
                return;
            }
            let Some(((_, key), generation)) = self.starts.pop_first() else { return };
            if self.host.on_started(&key, generation) {
                debug!(host = self.id, instance = %key.instance_id, generation, "started");
                count(&self.shared.counts.started);
            }
        }
    }

    fn next_alarm(&self) -> Instant {
        let start = self.starts.first_key_value().map(|((due, _), _)| *due);
        let deadline = self.host.next_deadline().map(|deadline| {
            let ms = deadline.since(now()).unsigned_abs().min(3_600_000) + 1;
            Instant::now() + Duration::from_millis(ms)
        });
        let others = [start, deadline, self.report_after].into_iter().flatten();
        others.fold(self.heartbeat, Instant::min)
    }

    fn on_alarm(&mut self) {
        self.finish_starts();
        let actions = self.host.on_deadline(now());
        self.act(actions);
    }

    fn remember(&mut self) {
        let changes = self.host.take_changes();
        let Some(journal) = self.shared.journal.as_ref().filter(|_| !changes.is_empty()) else {
            return;
        };
        if let Err(error) = journal.append(&self.id, &changes) {
            warn!(host = self.id, %error, "not remembered");
        }
    }

    /// Sends what there is to say: everything when the heartbeat is due, else what is new.
    async fn report(&mut self) {
        let now = Instant::now();
        let is_heartbeat = now >= self.heartbeat;
        if !is_heartbeat && self.report_after.is_some_and(|after| now < after) {
            return;
        }
        self.report_after = None;
        let Some(report) = self.host.report(is_heartbeat) else { return };
        if is_heartbeat {
            let interval = self.shared.options.heartbeat_ms;
            let jittered = interval - interval / 10 + self.below(interval / 5 + 1);
            self.heartbeat = now + Duration::from_millis(jittered.max(1));
        }
        let path = format!("/v1/hosts/{}/reports", self.id);
        let shared = self.shared.clone();
        for part in parts(report) {
            let body = serde_json::to_vec(&part).expect("plain data");
            let sent = shared.transport.send(Method::POST, &path, Some(body));
            let answer = tokio::time::timeout(PATIENCE, sent).await;
            match answer.unwrap_or_else(|_| Err(NoAnswer::lost("no answer in time".to_owned()))) {
                Ok(answer) if answer.is_success() => {
                    count(&shared.counts.reports);
                    self.failures = 0;
                    self.host.on_reported(&part);
                }
                other => {
                    self.complain("report", &other);
                    self.failures += 1;
                    self.report_after = Some(Instant::now() + self.backoff(self.failures));
                    return;
                }
            }
        }
    }

    fn complain(&self, what: &str, answer: &Result<Answer, NoAnswer>) {
        count(&self.shared.counts.failed);
        match answer {
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body);
                warn!(host = self.id, status = answer.status, said = %said, "could not {what}");
            }
            Err(error) => warn!(host = self.id, %error, "could not {what}"),
        }
    }

    /// How long to wait after so many failures in a row: half of it is chance.
    fn backoff(&mut self, failures: u32) -> Duration {
        let longest = BACKOFF_MS.saturating_mul(1 << failures.min(10)).min(BACKOFF_MS_MAX);
        Duration::from_millis(longest / 2 + self.below(longest / 2 + 1))
    }

    /// A number below `n` (SplitMix64; it spreads hosts out and decides nothing).
    fn below(&mut self, n: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

/// The report as it is, or in parts that each fit into a body.
fn parts(mut report: Report) -> Vec<Report> {
    if report.instances.len() + report.let_go.len() <= REPORT_INSTANCES_MAX {
        return vec![report];
    }
    let part = Report { complete: false, revision: report.revision, ..Report::default() };
    let mut parts = Vec::new();
    while !report.instances.is_empty() {
        let rest = report.instances.split_off(report.instances.len().min(REPORT_INSTANCES_MAX));
        parts.push(Report { instances: report.instances, ..part.clone() });
        report.instances = rest;
    }
    while !report.let_go.is_empty() {
        let rest = report.let_go.split_off(report.let_go.len().min(REPORT_INSTANCES_MAX));
        parts.push(Report { let_go: report.let_go, ..part.clone() });
        report.let_go = rest;
    }
    parts
}

/// The edge of the data plane: deadlines are moments of the wall clock.
#[allow(clippy::disallowed_methods)]
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
