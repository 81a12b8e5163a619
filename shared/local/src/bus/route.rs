//! Which inboxes an event goes to. What holds for all events of one kind is found once.

use crate::wiring::{Rule, Wiring};
use eventplane_events::{Entry, envelope};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The fields of the envelope that are the same in all events of one source and detail type.
const OF_KIND: [&str; 7] =
    ["source", "detail-type", "version", "account", "region", "resources", "replay-name"];

/// How many kinds of events are remembered; there are about thirty, by source and detail type.
const KINDS_MAX: usize = 1024;

/// The rules, with the routes found so far.
pub struct Router {
    /// Each with its function's place among the inboxes.
    rules: Vec<(Rule, usize)>,
    /// By detail type and source.
    routes: RwLock<HashMap<&'static str, HashMap<String, Arc<Route>>>>,
}

/// Where the events of one source and detail type go.
#[derive(Debug, Default, PartialEq, Eq)]
struct Route {
    /// To these inboxes, whatever else they say.
    always: Vec<usize>,
    /// By these rules, which have to see each event.
    judged: Vec<usize>,
}

impl Router {
    /// The routes of this wiring.
    #[must_use]
    pub fn new(wiring: &Wiring) -> Self {
        let place = |rule: &Rule| {
            let mut inboxes = wiring.inboxes.iter();
            inboxes.position(|inbox| inbox.function == rule.function)
        };
        let rules = wiring.rules.iter().filter_map(|rule| Some((rule.clone(), place(rule)?)));
        Router { rules: rules.collect(), routes: RwLock::default() }
    }

    /// The places in the wiring of the inboxes that `entry` goes to, once for each rule that matches,
    /// with the message for them; `seal` puts the entry into its envelope, and is not called for what nobody hears.
    pub fn route(
        &self,
        entry: &Entry,
        seal: impl FnOnce() -> Arc<str>,
    ) -> Option<(Arc<str>, Vec<usize>)> {
        let route = self.of_kind(entry);
        if *route == Route::default() {
            return None;
        }
        let body = seal();
        let mut inboxes = route.always.clone();
        if !route.judged.is_empty() {
            let event = serde_json::from_str(&body).unwrap_or(Value::Null);
            let matching = route.judged.iter().map(|index| &self.rules[*index]);
            let matching = matching.filter(|(rule, _)| rule.pattern.matches(&event));
            inboxes.extend(matching.map(|(_, inbox)| *inbox));
        }
        Some((body, inboxes))
    }

    fn of_kind(&self, entry: &Entry) -> Arc<Route> {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let route = known.get(entry.detail_type).and_then(|by_source| by_source.get(&entry.source));
        if let Some(route) = route {
            return route.clone();
        }
        drop(known);
        let route = Arc::new(self.find(entry));
        let mut known = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let by_source = known.entry(entry.detail_type).or_default();
        if by_source.len() < KINDS_MAX {
            by_source.insert(entry.source.clone(), route.clone());
        }
        route
    }

    fn find(&self, entry: &Entry) -> Route {
        let sample = Entry { detail: "{}".to_owned(), ..entry.clone() };
        let sample = serde_json::from_str(&envelope(&sample, "", "")).unwrap_or(Value::Null);
        let mut route = Route::default();
        for (index, (rule, inbox)) in self.rules.iter().enumerate() {
            if rule.fields.iter().all(|field| OF_KIND.contains(&field.as_str())) {
                if rule.pattern.matches(&sample) {
                    route.always.push(*inbox);
                }
                continue;
            }
            let named = rule.pattern.exact_strings("detail-type");
            if named.is_none_or(|names| names.contains(&entry.detail_type)) {
                route.judged.push(index);
            }
        }
        route
    }
}
