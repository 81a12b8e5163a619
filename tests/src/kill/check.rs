//! Judges a history: pure, and knows of the plane what its users are promised, and nothing else.
//!
//! An instance's states have one order, in which it never goes back: generation after generation,
//! each from pending over running and stopping to stopped, and at last shutting-down and terminated.
//! Answers that follow one another in time must follow in that order. That is enough for all of them
//! to be linearizable: what only grows can be put into one order whenever any two can.

use super::history::{Ask, Call, Got, Seen, Verb};
use eventplane_domain::State;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a history may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An id that was answered is there from then on.
    Kept,
    /// No instance is there that nobody asked for, and none twice.
    Asked,
    /// The same token has the same instances, and other parameters are refused.
    Token,
    /// No state goes back.
    Forward,
    /// What was acknowledged holds until something else is asked for.
    Acknowledged,
    /// What happens to an instance has been asked for.
    Caused,
    /// No answer is an internal error.
    Answered,
}

/// A broken rule, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The rule.
    pub rule: Rule,
    /// What breaks it.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// All that is wrong with a history; nothing, if it is good.
#[must_use]
pub fn judge(history: &[Call]) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut say = |rule, what| wrong.push(Wrong { rule, what });
    for call in history {
        if let Got::Refused(status, code) = &call.got
            && *status >= 500
        {
            say(Rule::Answered, format!("{:?}: {status} {code}", call.ask));
        }
    }
    let told = Told::of(history);
    told.lists(&mut say);
    told.labels(&mut say);
    told.tokens(&mut say);
    for (id, calls) in &told.instances {
        instance(id, calls, &told, &mut say);
    }
    wrong
}

type Say<'s> = &'s mut dyn FnMut(Rule, String);

/// A history, looked at from several sides.
struct Told<'h> {
    history: &'h [Call],
    /// When each id was answered first.
    first: BTreeMap<&'h str, u64>,
    /// The calls that show an instance or ask something of it.
    instances: BTreeMap<&'h str, Vec<&'h Call>>,
    /// The launches of each label.
    launches: BTreeMap<&'h str, Vec<&'h Call>>,
}

impl<'h> Told<'h> {
    fn of(history: &'h [Call]) -> Told<'h> {
        let (first, instances, launches) = Default::default();
        let mut told = Told { history, first, instances, launches };
        for call in history {
            let mut named: BTreeSet<&str> =
                seen(call).iter().map(|seen| seen.id.as_str()).collect();
            for id in &named {
                let first = told.first.entry(id).or_insert(call.ended);
                *first = call.ended.min(*first);
            }
            match &call.ask {
                Ask::Show(id) | Ask::Do(_, id) => drop(named.insert(id)),
                Ask::Launch { label, .. } => told.launches.entry(label).or_default().push(call),
                Ask::List => {}
            }
            for id in named {
                told.instances.entry(id).or_default().push(call);
            }
        }
        told
    }

    /// A list has all that was answered before it began, and each once.
    fn lists(&self, say: Say) {
        for call in self.history.iter().filter(|call| call.ask == Ask::List) {
            let Got::Seen(listed) = &call.got else { continue };
            let ids: BTreeSet<&str> = listed.iter().map(|seen| seen.id.as_str()).collect();
            if ids.len() != listed.len() {
                say(Rule::Asked, format!("a list names {} twice", listed.len() - ids.len()));
            }
            for (id, first) in &self.first {
                if *first < call.begun && !ids.contains(id) {
                    say(
                        Rule::Kept,
                        format!("{id} was answered, and a list at {} lacks it", call.begun),
                    );
                }
            }
        }
    }

    /// Each instance is of a launch that may have been done, no launch has more than it asked for,
    /// and what was answered is all that it has.
    fn labels(&self, say: Say) {
        let mut of_label: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in self.history {
            for Seen { id, label, .. } in seen(call) {
                of_label.entry(label).or_default().insert(id);
                let launches = self.launches.get(label.as_str()).into_iter().flatten();
                let mut possible = launches.filter(|launch| launch.begun < call.ended);
                if !possible.any(|launch| launch.may_have_changed()) {
                    say(Rule::Asked, format!("{id} of `{label}`, for which nobody asked"));
                }
            }
        }
        for (label, ids) in of_label {
            for launch in self.launches.get(label).into_iter().flatten() {
                let Ask::Launch { count, .. } = &launch.ask else { continue };
                if ids.len() > *count {
                    say(Rule::Asked, format!("`{label}` asked for {count} and has {ids:?}"));
                }
                let Got::Seen(answered) = &launch.got else { continue };
                let answered: BTreeSet<&str> = answered.iter().map(|one| one.id.as_str()).collect();
                if answered.len() != *count {
                    say(Rule::Asked, format!("`{label}` asked for {count}, got {answered:?}"));
                }
                if let Some(other) = ids.iter().find(|id| !answered.contains(*id)) {
                    say(
                        Rule::Asked,
                        format!("`{label}` was answered {answered:?}, and has {other}"),
                    );
                }
            }
        }
    }

    /// One token has one label and one answer, whatever was lost in between; a token is refused for
    /// other parameters, or when its instances have ended, and only then.
    fn tokens(&self, say: Say) {
        let mut of_token: BTreeMap<&str, Vec<(&str, &Call)>> = BTreeMap::new();
        for call in self.history {
            if let Ask::Launch { token: Some(token), label, .. } = &call.ask {
                of_token.entry(token).or_default().push((label, call));
            }
        }
        for (token, calls) in of_token {
            let mut answers = BTreeSet::new();
            for (_, call) in &calls {
                let Got::Seen(answered) = &call.got else { continue };
                answers.insert(answered.iter().map(|one| one.id.as_str()).collect::<Vec<_>>());
                if answered.iter().all(|one| one.state == State::Terminated) {
                    say(Rule::Token, format!("{token}: all have ended, and it is answered"));
                }
            }
            let labels = calls.iter().filter(|(_, call)| matches!(call.got, Got::Seen(_)));
            let labels: BTreeSet<&str> = labels.map(|(label, _)| *label).collect();
            if answers.len() > 1 || labels.len() > 1 {
                say(Rule::Token, format!("{token} of {labels:?} has several answers: {answers:?}"));
            }
            for (label, call) in &calls {
                let Got::Refused(_, code) = &call.got else { continue };
                let was_used = |otherwise: bool| {
                    let is = |(by, used): &(&str, &Call)| {
                        (by != label) == otherwise
                            && used.begun < call.ended
                            && used.may_have_changed()
                    };
                    calls.iter().any(is)
                };
                match code.as_str() {
                    "IdempotentParameterMismatch" if !was_used(true) => {
                        say(Rule::Token, format!("{token} was refused, and never used otherwise"));
                    }
                    "IdempotentInstanceTerminated" if !was_used(false) => {
                        say(Rule::Token, format!("{token} has ended, and was never used"));
                    }
                    "IdempotentInstanceTerminated" => {
                        for id in answers.iter().flatten().filter(|id| self.lives_after(id, call)) {
                            say(Rule::Token, format!("{token} has ended, and {id} lives"));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether anything shows the instance alive that was asked after `call` was answered.
    fn lives_after(&self, id: &str, call: &Call) -> bool {
        let calls = self.instances.get(id).map(Vec::as_slice).unwrap_or_default();
        let sights = sights(id, calls);
        let is_alive = |sight: &Sight| sight.state != State::Terminated;
        sights.iter().any(|sight| call.is_before(sight.call) && is_alive(sight))
    }
}

/// The instances that an answer shows.
fn seen(call: &Call) -> &[Seen] {
    match &call.got {
        Got::Seen(seen) => seen,
        _ => &[],
    }
}

/// A place in the order of an instance's states: its generation, and how far that is.
type Place = (u32, u8);

/// The generation of what ends for good: behind all others.
const END: u32 = u32::MAX;
/// The place of a stopped instance that was asked to start, until its next generation begins.
const STARTS: u8 = 4;

/// Where a state is, seen by somebody who knows that it is not before `least`.
fn place(state: State, generation: u32, least: Place) -> Place {
    match state {
        State::Pending if least > (generation, 0) => (generation, STARTS),
        State::Pending => (generation, 0),
        State::Running => (generation, 1),
        State::Stopping => (generation, 2),
        State::Stopped => (generation, 3),
        State::ShuttingDown => (END, 0),
        State::Terminated => (END, 1),
    }
}

/// What a call says of one instance.
struct Sight<'h> {
    call: &'h Call,
    state: State,
    /// Unknown in the answers of verbs.
    generation: Option<u32>,
    by_user: bool,
}

fn sights<'h>(id: &str, calls: &[&'h Call]) -> Vec<Sight<'h>> {
    let mut sights = Vec::new();
    for call in calls {
        for one in seen(call).iter().filter(|one| one.id == id) {
            let (state, by_user) = (one.state, one.by_user);
            sights.push(Sight { call, state, generation: Some(one.generation), by_user });
        }
        if let Got::Changed(before, state) = call.got {
            // What it was already may have come of anything.
            let by_user = before != state;
            sights.push(Sight { call, state, generation: None, by_user });
        }
    }
    sights.sort_by_key(|sight| sight.call.begun);
    sights
}

/// All that concerns one instance.
fn instance(id: &str, calls: &[&Call], told: &Told, say: Say) {
    for call in calls {
        if let Got::Refused(404, _) = &call.got
            && told.first.get(id).is_some_and(|first| *first < call.begun)
        {
            say(Rule::Kept, format!("{id} was answered, and at {} is not there", call.begun));
        }
    }
    let sights = sights(id, calls);
    forward(id, &sights, say);
    let asked = Asked { id, calls };
    for sight in &sights {
        asked.holds(sight, say);
        asked.is_caused(sight, say);
    }
}

/// Two answers of which one had come before the other was asked for are in the order of the states.
fn forward(id: &str, sights: &[Sight], say: Say) {
    let mut by_end: Vec<usize> = (0..sights.len()).collect();
    by_end.sort_by_key(|at| sights[*at].call.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut placed = Vec::with_capacity(sights.len());
    let mut least: Place = (0, 0);
    for sight in sights {
        while let Some(before) =
            ended.next_if(|before| sights[*before].call.ended < sight.call.begun)
        {
            least = least.max(placed[before]);
        }
        // A verb does not tell the generation: in that of the time its state can be reached, or
        // what is there has ended.
        let of_time = |generation: u32| if generation == END { 0 } else { generation };
        let generation = sight.generation.unwrap_or(of_time(least.0));
        let here = place(sight.state, generation, least);
        if here < least && (sight.generation.is_some() || least.0 == END) {
            let then = sight.call.begun;
            say(
                Rule::Forward,
                format!("{id} at {then}: {} {here:?}, after {least:?}", sight.state),
            );
        }
        // What a verb shows of an unknown generation moves nothing but the end.
        placed.push(match sight.generation {
            None if here.0 != END => (0, 0),
            _ => here,
        });
    }
}

/// What was asked of one instance.
struct Asked<'h> {
    id: &'h str,
    calls: &'h [&'h Call],
}

impl<'h> Asked<'h> {
    fn of(&self, verb: Verb) -> impl Iterator<Item = &'h Call> {
        let is = move |call: &&Call| matches!(&call.ask, Ask::Do(asked, _) if *asked == verb);
        self.calls.iter().copied().filter(is)
    }

    /// Whether such a request may have been done before `sight`, and after `since`.
    fn may(&self, verb: Verb, since: Option<&Call>, sight: &Sight) -> bool {
        self.of(verb).any(|call| {
            call.may_have_changed()
                && call.begun < sight.call.ended
                && since.is_none_or(|since| call.ended > since.begun)
        })
    }

    /// What was acknowledged is seen from then on, until something else may have been done.
    fn holds(&self, sight: &Sight, say: Say) {
        let done = |verb, to: State| {
            let acknowledged = move |call: &&Call| {
                call.is_before(sight.call)
                    && matches!(call.got, Got::Changed(before, now) if before != now && now == to)
            };
            self.of(verb).filter(acknowledged)
        };
        let mut broken = |what: &str, call: &Call| {
            let (id, then, when) = (self.id, call.ended, sight.call.begun);
            let state = sight.state;
            say(
                Rule::Acknowledged,
                format!("{id}: {what} acknowledged at {then}, {state} at {when}"),
            );
        };
        for stop in done(Verb::Stop, State::Stopping) {
            if matches!(sight.state, State::Pending | State::Running)
                && !self.may(Verb::Start, Some(stop), sight)
            {
                broken("a stop", stop);
            }
        }
        for start in done(Verb::Start, State::Pending) {
            // A start that finds no room goes back to stopped, and says so.
            let is_back = matches!(sight.state, State::Stopping | State::Stopped)
                && sight.by_user
                && sight.generation.is_some();
            if is_back && !self.may(Verb::Stop, Some(start), sight) {
                broken("a start", start);
            }
        }
    }

    /// Nothing stops, ends or begins anew by itself.
    fn is_caused(&self, sight: &Sight, say: Say) {
        let (id, when) = (self.id, sight.call.begun);
        let needed = match sight.state {
            State::Stopping | State::Stopped => Verb::Stop,
            State::ShuttingDown | State::Terminated => Verb::Terminate,
            State::Pending | State::Running => Verb::Start,
        };
        if needed == Verb::Start {
            let starts = |call: &&Call| call.may_have_changed() && call.begun < sight.call.ended;
            let starts = self.of(Verb::Start).filter(starts).count() as u32;
            if sight.generation.is_some_and(|generation| generation > 1 + starts) {
                say(
                    Rule::Caused,
                    format!("{id} at {when}: {starts} starts, and {:?}", sight.generation),
                );
            }
        } else if sight.by_user && !self.may(needed, None, sight) {
            say(Rule::Caused, format!("{id} at {when}: {}, and nobody asked", sight.state));
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
