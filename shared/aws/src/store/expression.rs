//! Conditions and updates in DynamoDB's expression language.
//!
//! Every name is a placeholder (`#0`), so that no attribute meets a reserved word, and every value
//! one of its own (`:0`). Source: "Condition and filter expressions, operators, and functions" and
//! "Using update expressions in DynamoDB", DynamoDB developer guide.

use super::attributes::{PARTITION, to_attribute};
use aws_sdk_dynamodb::types::AttributeValue;
use eventplane_store::{Condition, Update, Value};
use std::collections::HashMap;

/// The names and values of the expressions of one request.
#[derive(Default)]
pub(super) struct Expression {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Expression {
    /// The placeholder of a name.
    pub(super) fn name(&mut self, name: &str) -> String {
        let known = self.names.iter().find(|(_, known)| *known == name);
        if let Some((placeholder, _)) = known {
            return placeholder.clone();
        }
        let placeholder = format!("#{}", self.names.len());
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    /// The placeholder of a value.
    pub(super) fn value(&mut self, value: Value) -> String {
        let placeholder = format!(":{}", self.values.len());
        self.values.insert(placeholder.clone(), to_attribute(value));
        placeholder
    }

    /// Names and values, as a request takes them: absent where there are none.
    pub(super) fn into_parts(self) -> (Names, Values) {
        let names = (!self.names.is_empty()).then_some(self.names);
        (names, (!self.values.is_empty()).then_some(self.values))
    }

    /// All of `conditions`, joined; `None` if there are none.
    pub(super) fn all(&mut self, conditions: Vec<Condition>) -> Option<String> {
        let all: Vec<String> = conditions.into_iter().map(|one| self.condition(one)).collect();
        (!all.is_empty()).then(|| all.join(" AND "))
    }

    fn condition(&mut self, condition: Condition) -> String {
        match condition {
            Condition::ItemAbsent => format!("attribute_not_exists({})", self.name(PARTITION)),
            Condition::ItemPresent => format!("attribute_exists({})", self.name(PARTITION)),
            Condition::Absent(name) => format!("attribute_not_exists({})", self.name(&name)),
            Condition::Present(name) => format!("attribute_exists({})", self.name(&name)),
            Condition::Equals(name, value) => self.compare(&name, "=", value),
            Condition::Differs(name, value) => {
                let differs = self.compare(&name, "<>", value);
                format!("(attribute_not_exists({}) OR {differs})", self.name(&name))
            }
            Condition::AtLeast(name, least) => self.compare(&name, ">=", Value::N(least)),
            Condition::AtMost(name, most) => self.compare(&name, "<=", Value::N(most)),
            Condition::Any(any) => {
                let any: Vec<String> = any.into_iter().map(|one| self.condition(one)).collect();
                format!("({})", any.join(" OR "))
            }
        }
    }

    fn compare(&mut self, name: &str, operator: &str, value: Value) -> String {
        format!("{} {operator} {}", self.name(name), self.value(value))
    }

    /// All of `updates`; `None` if there are none.
    pub(super) fn updates(&mut self, updates: Vec<Update>) -> Option<String> {
        let (mut sets, mut removes, mut adds) = (vec![], vec![], vec![]);
        for update in updates {
            match update {
                Update::Set(name, value) => sets.push(self.compare(&name, "=", value)),
                Update::Remove(name) => removes.push(self.name(&name)),
                Update::Add(name, n) => {
                    adds.push(format!("{} {}", self.name(&name), self.value(Value::N(n))));
                }
            }
        }
        let clauses: Vec<String> = [("SET", sets), ("REMOVE", removes), ("ADD", adds)]
            .into_iter()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")))
            .collect();
        (!clauses.is_empty()).then(|| clauses.join(" "))
    }
}

/// Placeholders and the names that they stand for.
pub(super) type Names = Option<HashMap<String, String>>;
/// Placeholders and the values that they stand for.
pub(super) type Values = Option<HashMap<String, AttributeValue>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_has_its_expression() {
        for (condition, expected) in [
            (Condition::ItemAbsent, "attribute_not_exists(#0)"),
            (Condition::ItemPresent, "attribute_exists(#0)"),
            (Condition::absent("a"), "attribute_not_exists(#0)"),
            (Condition::present("a"), "attribute_exists(#0)"),
            (Condition::equals("a", 1), "#0 = :0"),
            (Condition::differs("a", "x"), "(attribute_not_exists(#0) OR #0 <> :0)"),
            (Condition::at_least("a", 1), "#0 >= :0"),
            (Condition::at_most("a", 1), "#0 <= :0"),
            (Condition::absent_or_at_most("a", 1), "(attribute_not_exists(#0) OR #0 <= :0)"),
        ] {
            let told = format!("{condition:?}");
            let mut expression = Expression::default();
            assert_eq!(expression.all(vec![condition]).as_deref(), Some(expected), "{told}");
        }
    }

    #[test]
    fn conditions_and_updates_of_one_write_share_their_names() {
        let mut expression = Expression::default();
        let conditions = vec![Condition::at_least("free", 4), Condition::absent("dead")];
        assert_eq!(
            expression.all(conditions).as_deref(),
            Some("#0 >= :0 AND attribute_not_exists(#1)")
        );
        let updates = vec![
            Update::set("state", "busy"),
            Update::remove("dead"),
            Update::add("free", -4),
            Update::set("since", 7),
        ];
        let updates = expression.updates(updates);
        assert_eq!(updates.as_deref(), Some("SET #2 = :1, #3 = :3 REMOVE #1 ADD #0 :2"));
        let (names, values) = expression.into_parts();
        assert_eq!(names.map(|names| names.len()), Some(4));
        assert_eq!(values.expect("values")[":2"], AttributeValue::N("-4".to_owned()));
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let mut expression = Expression::default();
        assert_eq!((expression.all(vec![]), expression.updates(vec![])), (None, None));
        assert_eq!(expression.into_parts(), (None, None));
    }
}
