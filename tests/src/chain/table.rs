//! The comparison as a table for people.

use super::{Fault, Row};
use std::fmt::Write;

const HEAD: &str = "\
| | asked | run | refused, clean | lost | left behind | runs after, median | hangs, median | hangs, longest | well again after |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";

/// A time for people.
fn time(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

/// The rows as markdown, a table for each fault.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    for fault in Fault::ALL {
        let of_fault: Vec<&Row> = rows.iter().filter(|row| row.fault == fault).collect();
        if of_fault.is_empty() {
            continue;
        }
        let _ = write!(text, "**{}**\n\n{HEAD}", fault.name());
        for row in of_fault {
            let well = row.well_after_ms.map_or_else(|| "never".to_owned(), time);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {well} |",
                row.kind.name(),
                row.asked,
                row.running,
                row.refused,
                row.lost,
                row.left_behind,
                time(row.ran_after_ms_median),
                time(row.hung_ms_median),
                time(row.hung_ms_max),
            );
        }
        text.push('\n');
    }
    text
}
