//! One host: asking, doing and reporting. What to do is [`Host`]'s to say, how to do it its driver's.

use crate::driver::{Driver, Happened};
use crate::host::{Action, Change, Host};
use crate::journal::Journal;
use crate::simulated::Chance;
use crate::speech::Speech;
use crate::transport::{Answer, Method, NoAnswer, Transport};
use crate::wire::{Assignments, Report};
use eventplane_domain::Millis;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
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
/// How soon after it could not be written down what has changed is written again.
const KEEP_AGAIN: Duration = Duration::from_secs(1);
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

/// How often a host speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How often it reports everything that it sees, in milliseconds (give or take a tenth).
    pub(crate) heartbeat_ms: u64,
    /// How long an answer may be waited for when nothing is new, in seconds.
    pub(crate) wait_s: u64,
    /// The shortest time from one question to the next, in milliseconds.
    pub(crate) poll_gap_ms: u64,
}

/// What all hosts of a process share.
pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) journal: Option<Journal>,
    pub(crate) registering: Semaphore,
    pub(crate) registered: watch::Sender<usize>,
    pub(crate) counts: Counts,
    pub(crate) pace: Pace,
}

/// Why a host has nothing more to say. What runs on it runs on.
///
/// The plane listens to another agent of the same name, or not to this one's key any more, and has
/// said so.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Silenced(String);

/// A request that is under way.
type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;

/// What was asked, and what came of it.
enum Asked {
    /// To be known.
    Registration(Result<Answer, NoAnswer>),
    /// For the wanted set: when, how long the plane was asked to wait for news, in seconds, and the
    /// answer.
    Wanted(Instant, u64, Result<Answer, NoAnswer>),
}

/// One host.
pub(crate) struct HostLoop {
    id: String,
    speech: Speech,
    host: Host,
    driver: Box<dyn Driver>,
    shared: Arc<Shared>,
    chance: Chance,
    is_registered: bool,
    /// What has changed and is not written down yet, and what is to be done once it is.
    unkept: Vec<Change>,
    undone: Vec<Action>,
    keep_after: Option<Instant>,
    /// When everything is to be reported the next time; never before it is known.
    heartbeat: Option<Instant>,
    /// After a report that was not taken: when to try again.
    report_after: Option<Instant>,
    failures: u32,
    /// Whether the plane holds an answer back until there is news, as far as is known.
    plane_waits: bool,
}

impl HostLoop {
    pub(crate) fn new(
        id: &str,
        speech: Speech,
        host: Host,
        driver: Box<dyn Driver>,
        shared: Arc<Shared>,
        seed: u64,
    ) -> Self {
        HostLoop {
            id: id.to_owned(),
            speech,
            undone: Vec::new(),
            host,
            driver,
            shared,
            chance: Chance(seed),
            is_registered: false,
            unkept: Vec::new(),
            keep_after: None,
            heartbeat: None,
            report_after: None,
            failures: 0,
            plane_waits: true,
        }
    }

    /// Runs the host until it is told to stop, or is silenced.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Silenced> {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            silenced = self.live() => silenced,
        }
    }

    async fn live(&mut self) -> Result<(), Silenced> {
        self.driver.resume(self.host.standing());
        let mut asking = self.ask(Instant::now(), 0);
        loop {
            let alarm = self.next_alarm();
            tokio::select! {
                asked = &mut asking => {
                    let next = self.on_answer(asked)?;
                    asking = self.ask(next, self.shared.pace.wait_s);
                }
                happened = self.driver.happened() => self.on_happened(happened),
                () = sleep_until(alarm) => {
                    let late = self.host.on_deadline(now());
                    self.undone.extend(late);
                }
            }
            self.act();
            if self.is_registered {
                self.report().await?;
            }
        }
    }

    /// Asks, at `when`: to be known if it is not yet, otherwise for the wanted set.
    fn ask(&mut self, when: Instant, wait_s: u64) -> Asking {
        let shared = self.shared.clone();
        if !self.is_registered {
            let registration = self.speech.registration();
            return Box::pin(async move {
                sleep_until(when).await;
                let (path, body) = match registration {
                    Ok(registration) => registration,
                    Err(why) => return Asked::Registration(Err(NoAnswer::unsent(why))),
                };
                let _turn = shared.registering.acquire().await;
                let sent = shared.transport.send(Method::POST, &path, Some(body));
                let answer = tokio::time::timeout(PATIENCE, sent).await;
                Asked::Registration(answer.unwrap_or_else(|_| late()))
            });
        }
        let revision = self.host.revision();
        let path = self.speech.path(&format!("assignments?after={revision}&wait={wait_s}"));
        Box::pin(async move {
            sleep_until(when).await;
            count(&shared.counts.polls);
            let at = Instant::now();
            let sent = shared.transport.send(Method::GET, &path, None);
            let patience = PATIENCE + Duration::from_secs(wait_s);
            let answer = tokio::time::timeout(patience, sent).await;
            Asked::Wanted(at, wait_s, answer.unwrap_or_else(|_| late()))
        })
    }

    /// Takes in an answer, and says when to ask next.
    fn on_answer(&mut self, asked: Asked) -> Result<Instant, Silenced> {
        let (at, wait_s, answer) = match asked {
            Asked::Registration(answer) => return self.on_registration(&answer),
            Asked::Wanted(at, wait_s, answer) => (at, wait_s, answer),
        };
        let answer = match answer {
            Ok(answer) if answer.is_success() => answer,
            failed => {
                self.complain("ask for assignments", &failed)?;
                let next = self.try_again();
                if !matches!(&failed, Ok(unknown) if unknown.status == 404) {
                    return Ok(next);
                }
                self.host.on_unknown();
                self.is_registered = false;
                return Ok(Instant::now());
            }
        };
        let set = match answer.json::<Assignments>() {
            Ok(set) => set,
            Err(error) => {
                warn!(host = self.id, %error, "the wanted set cannot be read");
                return Ok(self.try_again());
            }
        };
        self.failures = 0;
        let before = self.host.revision();
        self.driver.hear(&answer.body);
        let actions = self.host.on_wanted(&set, now());
        self.undone.extend(actions);
        self.learn_whether_it_waits(at, wait_s, set.revision == before);
        let gap = Duration::from_millis(self.shared.pace.poll_gap_ms);
        let after = Duration::from_millis(if self.plane_waits { 0 } else { set.poll_after_ms });
        Ok(Instant::now() + after.max(gap))
    }

    fn on_registration(&mut self, answer: &Result<Answer, NoAnswer>) -> Result<Instant, Silenced> {
        if !matches!(answer, Ok(good) if good.is_success()) {
            self.complain("register", answer)?;
            return Ok(self.try_again());
        }
        if let Err(why) = self.speech.registered() {
            warn!(host = self.id, why, "it is not written down that the plane knows this host");
            return Ok(self.try_again());
        }
        self.is_registered = true;
        if self.heartbeat.is_none() {
            self.shared.registered.send_modify(|count| *count += 1);
            // The first heartbeats of a fleet are spread over one interval.
            let first = self.chance.below(self.shared.pace.heartbeat_ms) + 1;
            self.heartbeat = Some(Instant::now() + Duration::from_millis(first));
        }
        // Registered and then still unknown is no reason to ask without end.
        let wait = if self.failures > 0 { self.backoff(self.failures) } else { Duration::ZERO };
        Ok(Instant::now() + wait)
    }

    /// One more request has failed: when to send the next.
    fn try_again(&mut self) -> Instant {
        self.failures += 1;
        Instant::now() + self.backoff(self.failures)
    }

    /// A plane that waits answers at once when there is news; one that does not, as on Lambda, also
    /// when there is none, and says how soon to ask again.
    fn learn_whether_it_waits(&mut self, at: Instant, wait_s: u64, nothing_new: bool) {
        let took = at.elapsed();
        if took >= WAITED {
            self.plane_waits = true;
        } else if nothing_new && took < Duration::from_millis(wait_s * 500) {
            self.plane_waits = false;
        }
    }

    fn on_happened(&mut self, happened: Vec<Happened>) {
        for happened in happened {
            match happened {
                Happened::Started(key, generation) => {
                    if self.host.on_started(&key, generation) {
                        debug!(host = self.id, instance = %key.instance_id, generation, "started");
                        count(&self.shared.counts.started);
                    } else {
                        self.undone.push(Action::Stop(key, generation));
                    }
                }
                Happened::Ended(key, generation, reason) => {
                    debug!(host = self.id, instance = %key.instance_id, generation, %reason, "ended");
                    self.host.on_ended(&key, generation, reason);
                }
                Happened::Stopped(key) => {
                    debug!(host = self.id, instance = %key.instance_id, "stopped");
                }
            }
        }
    }

    /// Writes down what has changed, and then does what is to be done: never the other way round.
    fn act(&mut self) {
        self.unkept.extend(self.host.take_changes());
        if self.keep_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        self.keep_after = None;
        let journal = self.shared.journal.as_ref().filter(|_| !self.unkept.is_empty());
        if let Some(Err(error)) = journal.map(|journal| journal.append(&self.id, &self.unkept)) {
            warn!(host = self.id, %error, "nothing is done or said before this is written down");
            self.keep_after = Some(Instant::now() + KEEP_AGAIN);
            return;
        }
        for change in std::mem::take(&mut self.unkept) {
            if let Change::Forgotten(key) = change {
                self.driver.forget(&key);
            }
        }
        for action in std::mem::take(&mut self.undone) {
            match action {
                Action::Stop(key, generation) => {
                    self.driver.stop(&key, generation);
                    count(&self.shared.counts.stopped);
                }
                Action::Reboot(key, generation) => {
                    self.driver.reboot(&key, generation);
                    count(&self.shared.counts.rebooted);
                }
                Action::Start(key, generation) => self.driver.start(&key, generation),
            }
        }
    }

    fn next_alarm(&self) -> Instant {
        let deadline = self.host.next_deadline().map(|deadline| {
            let ms = deadline.since(now()).unsigned_abs().min(3_600_000) + 1;
            Instant::now() + Duration::from_millis(ms)
        });
        let reports =
            [self.heartbeat, self.report_after].map(|at| at.filter(|_| self.is_registered));
        let others = [deadline, self.keep_after].into_iter().chain(reports);
        let latest = Instant::now() + Duration::from_secs(3_600);
        others.flatten().fold(latest, Instant::min)
    }

    /// Sends what there is to say: everything when the heartbeat is due, else what is new.
    async fn report(&mut self) -> Result<(), Silenced> {
        let now = Instant::now();
        let is_heartbeat = self.heartbeat.is_some_and(|due| now >= due);
        if !is_heartbeat && self.report_after.is_some_and(|after| now < after) {
            return Ok(());
        }
        self.report_after = None;
        let Some(mut report) = self.host.report(is_heartbeat) else { return Ok(()) };
        if !self.unkept.is_empty() {
            // What is not written down is not said; that the host lives is. What a whole report leaves
            // out is never taken for gone.
            report = Report { complete: true, revision: report.revision, ..Report::default() };
        }
        // A promise is given when it is true.
        report.let_go.retain(|promise| !self.driver.is_stopping(&promise.key));
        if !is_heartbeat && report.instances.is_empty() && report.let_go.is_empty() {
            return Ok(());
        }
        if is_heartbeat {
            let interval = self.shared.pace.heartbeat_ms;
            let jittered = interval - interval / 10 + self.chance.below(interval / 5 + 1);
            self.heartbeat = Some(now + Duration::from_millis(jittered.max(1)));
        }
        let path = self.speech.path("reports");
        let shared = self.shared.clone();
        for part in parts(report) {
            let body = serde_json::to_vec(&part).expect("plain data");
            let sent = shared.transport.send(Method::POST, &path, Some(body));
            let answer = tokio::time::timeout(PATIENCE, sent).await;
            match answer.unwrap_or_else(|_| late()) {
                Ok(answer) if answer.is_success() => {
                    count(&shared.counts.reports);
                    self.failures = 0;
                    self.host.on_reported(&part);
                }
                other => {
                    self.complain("report", &other)?;
                    self.report_after = Some(self.try_again());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Logs a request that has failed.
    ///
    /// # Errors
    /// When the plane will not listen to this agent again.
    fn complain(&self, what: &str, answer: &Result<Answer, NoAnswer>) -> Result<(), Silenced> {
        count(&self.shared.counts.failed);
        match answer {
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body);
                warn!(host = self.id, status = answer.status, said = %said, "could not {what}");
                self.speech.check(answer).map_err(Silenced)
            }
            Err(error) => {
                warn!(host = self.id, %error, "could not {what}");
                Ok(())
            }
        }
    }

    /// How long to wait after so many failures in a row: half of it is chance.
    fn backoff(&mut self, failures: u32) -> Duration {
        let longest = BACKOFF_MS.saturating_mul(1 << failures.min(10)).min(BACKOFF_MS_MAX);
        Duration::from_millis(longest / 2 + self.chance.below(longest / 2 + 1))
    }
}

fn late() -> Result<Answer, NoAnswer> {
    Err(NoAnswer::lost("no answer in time".to_owned()))
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
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
