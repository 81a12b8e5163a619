//! Which sort keys a query reads: DynamoDB takes one condition on them, and no more.
//!
//! Source: "Key condition expressions for the Query operation in DynamoDB", DynamoDB developer
//! guide.

use eventplane_store::Query;

/// The condition on the sort key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Range {
    All,
    BeginsWith(String),
    AtLeast(String),
    AtMost(String),
    Between(String, String),
}

/// The range of a query; `None` when nothing can be in it.
pub(super) fn range(query: &Query) -> Option<Range> {
    let Query { prefix, from, descending, .. } = query;
    let Some(from) = from else {
        let all = prefix.is_empty();
        return Some(if all { Range::All } else { Range::BeginsWith(prefix.clone()) });
    };
    // No text that begins with the prefix comes behind the prefix and the greatest character twice,
    // unless it goes on with that character, which stands for nothing and which nobody writes.
    let end = format!("{prefix}\u{10ffff}\u{10ffff}");
    let range = match (prefix.is_empty(), *descending) {
        // No sort key is empty.
        (true, true) if from.is_empty() => return None,
        (true, false) if from.is_empty() => Range::All,
        (true, false) => Range::AtLeast(from.clone()),
        (true, true) => Range::AtMost(from.clone()),
        (false, false) => Range::Between(prefix.max(from).clone(), end),
        (false, true) => Range::Between(prefix.clone(), end.min(from.clone())),
    };
    match &range {
        Range::Between(from, to) if from > to => None,
        _ => Some(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_one_condition_on_the_sort_key() {
        let end = "a\u{10ffff}\u{10ffff}".to_owned();
        for (prefix, from, descending, expected) in [
            ("", None, false, Some(Range::All)),
            ("a", None, true, Some(Range::BeginsWith("a".to_owned()))),
            ("", Some("b"), false, Some(Range::AtLeast("b".to_owned()))),
            ("", Some("b"), true, Some(Range::AtMost("b".to_owned()))),
            ("", Some(""), false, Some(Range::All)),
            ("", Some(""), true, None),
            ("a", Some("a2"), false, Some(Range::Between("a2".to_owned(), end.clone()))),
            ("a", Some("A"), false, Some(Range::Between("a".to_owned(), end.clone()))),
            ("a", Some("b"), false, None),
            ("a", Some("a2"), true, Some(Range::Between("a".to_owned(), "a2".to_owned()))),
            ("a", Some("b"), true, Some(Range::Between("a".to_owned(), end))),
            ("a", Some("A"), true, None),
        ] {
            let query = Query {
                from: from.map(str::to_owned),
                descending,
                ..Query::partition("t", "p", 1).prefix(prefix)
            };
            assert_eq!(range(&query), expected, "{prefix} {from:?} {descending}");
        }
    }
}
