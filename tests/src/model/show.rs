//! Histories for people: a line for each thing that happens, and under it what was written and
//! published.

use super::check::host_name;
use super::steps::{Action, Protocol, Trace, Verb};
use eventplane_store::{Item, Value};

/// How much of a value is shown.
const SHOWN_MAX: usize = 48;

impl Protocol {
    /// An action in words.
    pub(super) fn words(&self, action: &Action) -> String {
        let event = |event: u32| self.event(event);
        let to = |to: u8| self.plane.functions[usize::from(to)].as_str();
        match *action {
            Action::Deliver { to: at, event: e } => format!("{} hears {}", to(at), event(e)),
            Action::Crash { to: at, event: e } => {
                format!("{} hears {}, commits and dies before it publishes", to(at), event(e))
            }
            Action::Look { to: at, event: e } => {
                format!("{} hears {} and looks; others come before its commit", to(at), event(e))
            }
            Action::Commit => "the function that had looked goes on".to_owned(),
            Action::Lose { event: e } => format!("{} is lost", event(e)),
            Action::Ask { verb, instance } => format!("a user {} {instance}", verb.word()),
            Action::AskAndCrash { verb, instance } => {
                format!("a user {} {instance}, and the api dies before it publishes", verb.word())
            }
            Action::Poll { host } => format!("{} asks what it is to run", host_name(host)),
            Action::Hear { host } => format!("{} gets the answer", host_name(host)),
            Action::Start { host, .. } => format!("{} has started it", host_name(host)),
            Action::FailToStart { host, .. } => format!("{} cannot start it", host_name(host)),
            Action::End { host, .. } => format!("what runs on {} ends by itself", host_name(host)),
            Action::Report { host } => format!("{} reports", host_name(host)),
            Action::ReportAndCrash { host } => {
                format!("{} reports, and the api dies before it publishes", host_name(host))
            }
            Action::LetGo { host } => format!("{} lets go of what is late", host_name(host)),
            Action::Restart { host } => format!("the agent of {} starts anew", host_name(host)),
            Action::Die { host } => format!("{} is gone", host_name(host)),
            Action::SayDead { host } => format!("{} is declared dead", host_name(host)),
            Action::SayDeadAndCrash { host, upto } => {
                format!("{} is declared dead, and the api dies after write {upto}", host_name(host))
            }
            Action::PassDeadline => "the deadline passes".to_owned(),
        }
    }

    fn event(&self, number: u32) -> String {
        let sent = self.plane.atoms.sent.value(number);
        let metadata = &sent.event.metadata;
        let instance = self.ids.iter().position(|id| id == metadata.subject.as_str());
        let instance = instance.map_or_else(|| "?".to_owned(), |at| at.to_string());
        format!("{} of {instance}, generation {}", sent.event.data.name(), metadata.generation)
    }

    /// What an action did, in lines.
    pub(super) fn effects(&self, trace: &Trace) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, cell) in trace.commits.iter().flatten() {
            let place = self.plane.atoms.keys.value(*key);
            let mut name = place.key.to_string();
            for (number, id) in self.ids.iter().enumerate() {
                name = name.replace(id, &number.to_string());
            }
            let shown = match cell {
                None => "gone".to_owned(),
                Some(cell) => shown(&self.plane.atoms.cells.value(*cell).item),
            };
            lines.push(format!("wrote {name}: {shown}"));
        }
        lines.extend(
            trace.published.iter().map(|event| format!("published {}", self.event(*event))),
        );
        lines.extend(trace.failure.iter().map(|failure| format!("FAILED: {failure}")));
        lines
    }

    /// Prints an action and what it did.
    #[allow(clippy::print_stdout, reason = "a history for people")]
    pub(super) fn tell(&self, what: &str, trace: &Trace) {
        println!("    {what}");
        self.effects(trace).iter().for_each(|line| println!("        {line}"));
    }
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Stop => "stops",
            Verb::Start => "starts",
            Verb::Terminate => "terminates",
        }
    }
}

/// The short values of an item.
fn shown(item: &Item) -> String {
    let value = |value: &Value| match value {
        Value::N(number) => number.to_string(),
        Value::S(text) => text.clone(),
        Value::Bool(is_so) => is_so.to_string(),
        Value::B(_) => "bytes".to_owned(),
    };
    let short = |(name, v): (&String, &Value)| {
        let text = value(v);
        let is_shown = text != "-" && text.len() <= SHOWN_MAX && name != "open";
        is_shown.then(|| format!("{name}={text}"))
    };
    item.iter().filter_map(short).collect::<Vec<_>>().join(" ")
}
