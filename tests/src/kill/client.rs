//! Clients: they ask at random, and write down every request with its answer.

use super::history::{Ask, Call, Got, Seen, Verb};
use eventplane_agent::{Answer, Http, Method, Transport};
use eventplane_domain::State;
use eventplane_engine::Dice;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long an answer may take. A plane that is killed breaks its connections, so this only ends
/// what hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many instances are alive at most before clients rather end some.
const LIVE_MAX: usize = 120;
/// The most instances of one launch.
const COUNT_MAX: usize = 4;
/// The most instances of a page.
const PAGE: usize = 100;

/// The history, and what clients know from it.
pub struct Record {
    epoch: Instant,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    calls: Vec<Call>,
    /// The instances that were answered, as they were seen last.
    states: BTreeMap<String, State>,
    /// The tokens that were used, and whether they were answered.
    tokens: Vec<(Ask, bool)>,
    labels: usize,
}

impl Default for Record {
    fn default() -> Self {
        Record { epoch: Instant::now(), told: Mutex::default() }
    }
}

impl Record {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.told().calls.clone()
    }

    /// The ids that were answered so far.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.told().states.keys().cloned().collect()
    }

    /// The launches with a token that were never answered.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Ask> {
        let told = self.told();
        let open = told.tokens.iter().filter(|(_, is_answered)| !is_answered);
        open.map(|(ask, _)| ask.clone()).collect()
    }

    fn note(&self, begun: u64, ask: Ask, got: Got) {
        let ended = self.now();
        let mut told = self.told();
        if let Got::Seen(seen) = &got {
            for one in seen {
                told.states.insert(one.id.clone(), one.state);
            }
        }
        if let (Ask::Do(_, id), Got::Changed(_, state)) = (&ask, &got) {
            told.states.insert(id.clone(), *state);
        }
        if !matches!(got, Got::Unknown)
            && let Some((_, is_answered)) = told.tokens.iter_mut().find(|(used, _)| *used == ask)
        {
            *is_answered = true;
        }
        told.calls.push(Call { begun, ended, ask, got });
    }

    /// Asks, and writes down what comes; false when no answer does.
    pub async fn ask(&self, http: &Http, ask: Ask) -> bool {
        let begun = self.now();
        let answer = match &ask {
            Ask::List => list(http).await,
            _ => one(http, &ask).await,
        };
        let is_there = answer.is_some();
        self.note(begun, ask, answer.unwrap_or(Got::Unknown));
        is_there
    }

    /// The next thing to ask.
    fn draw(&self, dice: &mut Dice) -> Ask {
        let mut told = self.told();
        let is_live = |state: &State| !matches!(state, State::ShuttingDown | State::Terminated);
        let (live, ended): (Vec<_>, Vec<_>) =
            told.states.iter().partition(|(_, state)| is_live(state));
        let pick = |dice: &mut Dice, of: &[(&String, &State)], state: Option<State>| {
            let fit = of.iter().filter(|(_, now)| state.is_none_or(|state| state == **now));
            let fit: Vec<&String> = fit.map(|(id, _)| *id).collect();
            fit.get(dice.below(fit.len())).map(|id| (*id).clone())
        };
        let verb = |dice: &mut Dice, verb, state| {
            // Now and then of one that is in another state: that is refused, or comes in between.
            let state = Some(state).filter(|_| dice.below(5) > 0);
            pick(dice, &live, state).map(|id| Ask::Do(verb, id))
        };
        let is_full = live.len() >= LIVE_MAX;
        let drawn = match dice.below(100) {
            0..30 if is_full => pick(dice, &live, None).map(|id| Ask::Do(Verb::Terminate, id)),
            0..30 => None,
            30..42 => told.tokens.get(dice.below(told.tokens.len())).map(|(ask, _)| ask.clone()),
            42..46 => told.tokens.get(dice.below(told.tokens.len())).map(|(ask, _)| other(ask)),
            46..58 => pick(dice, &live, None).map(|id| Ask::Do(Verb::Terminate, id)),
            58..66 => verb(dice, Verb::Stop, State::Running),
            66..74 => verb(dice, Verb::Start, State::Stopped),
            74..77 => verb(dice, Verb::Reboot, State::Running),
            77..80 => pick(dice, &ended, None).map(|id| Ask::Do(Verb::Terminate, id)),
            80..86 => pick(dice, &ended, None).map(Ask::Show),
            _ => pick(dice, &live, None).map(Ask::Show),
        };
        drawn.unwrap_or_else(|| told.launch(dice))
    }
}

/// The same token with other parameters.
fn other(ask: &Ask) -> Ask {
    match ask {
        Ask::Launch { token, label, count } => {
            Ask::Launch { token: token.clone(), label: format!("not-{label}"), count: *count }
        }
        ask => ask.clone(),
    }
}

impl Told {
    fn launch(&mut self, dice: &mut Dice) -> Ask {
        self.labels += 1;
        let label = format!("label-{}", self.labels);
        let token = (dice.below(6) > 0).then(|| format!("token-{}", self.labels));
        let has_token = token.is_some();
        let ask = Ask::Launch { token, label, count: 1 + dice.below(COUNT_MAX) };
        if has_token {
            self.tokens.push((ask.clone(), false));
        }
        ask
    }
}

/// Asks until no answer comes.
pub async fn run(record: &Record, http: &Http, seed: u64) {
    let mut dice = Dice::new(seed);
    loop {
        let ask = record.draw(&mut dice);
        if !record.ask(http, ask).await {
            return;
        }
    }
}

/// What is answered; `None` if nothing is.
async fn one(http: &Http, ask: &Ask) -> Option<Got> {
    let (method, path, body) = match ask {
        Ask::Launch { token, label, count } => {
            let body = json!({ "instance_type": "t3.micro", "client_token": token,
                "count": count, "tags": { "label": label } });
            (Method::POST, "/v1/instances".to_owned(), Some(body))
        }
        Ask::Show(id) => (Method::GET, format!("/v1/instances/{id}"), None),
        Ask::Do(Verb::Terminate, id) => (Method::DELETE, format!("/v1/instances/{id}"), None),
        Ask::Do(Verb::Start, id) => (Method::POST, format!("/v1/instances/{id}/start"), None),
        Ask::Do(Verb::Stop, id) => (Method::POST, format!("/v1/instances/{id}/stop"), None),
        Ask::Do(Verb::Reboot, id) => (Method::POST, format!("/v1/instances/{id}/reboot"), None),
        Ask::List => return list(http).await,
    };
    let answer = send(http, method, &path, body).await?;
    Some(read(&answer))
}

/// Sends a request; `None` when no answer comes.
pub async fn send(http: &Http, method: Method, path: &str, body: Option<Value>) -> Option<Answer> {
    let body = body.map(|body| body.to_string().into_bytes());
    timeout(PATIENCE, http.send(method, path, body)).await.ok()?.ok()
}

/// What an answer says.
///
/// # Panics
/// When it is none that the API has.
fn read(answer: &Answer) -> Got {
    let body: Value = answer.json().expect("JSON");
    let state = |name: &str| State::of_name(body[name].as_str()?);
    match answer.status {
        503 => Got::Unknown,
        200 | 202 => match (state("previous_state"), state("current_state")) {
            (Some(before), Some(now)) => Got::Changed(before, now),
            _ if body["instances"].is_array() => Got::Seen(instances(&body)),
            _ => Got::Seen(vec![instance(&body)]),
        },
        status => {
            let code = body["error"]["code"].as_str().unwrap_or("no code");
            Got::Refused(status, code.to_owned())
        }
    }
}

fn instances(body: &Value) -> Vec<Seen> {
    body["instances"].as_array().into_iter().flatten().map(instance).collect()
}

fn instance(shown: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let generation = shown["generation"].as_u64().and_then(|number| u32::try_from(number).ok());
    Seen {
        id: text(&shown["instance_id"]),
        label: text(&shown["tags"]["label"]),
        state: State::of_name(&text(&shown["state"])).expect("a state of EC2's"),
        generation: generation.expect("a generation"),
        by_user: shown["state_reason"]["code"] == eventplane_domain::code::USER_SHUTDOWN,
    }
}

/// All instances, newest first; `None` when a page is not answered.
async fn list(http: &Http) -> Option<Got> {
    let mut all = Vec::new();
    let mut path = format!("/v1/instances?limit={PAGE}");
    loop {
        let answer = send(http, Method::GET, &path, None).await?;
        match read(&answer) {
            Got::Seen(page) => all.extend(page),
            other => return Some(other),
        }
        let body: Value = answer.json().expect("JSON");
        let Some(next) = body["next"].as_str() else { return Some(Got::Seen(all)) };
        path = format!("/v1/instances?limit={PAGE}&next={next}");
    }
}
