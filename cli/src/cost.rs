//! `cost`: what the plane costs on AWS.

use crate::args::Cost;
use crate::show::Screen;
use eventplane_cost::launch::{self, Phase, WAYS, Way};
use eventplane_cost::prices::{self, Price};
use eventplane_cost::rest::{self, Rest};
use eventplane_cost::{Line, total_usd};
use serde_json::{Value, json};

const MILLION: f64 = 1e6;
const THOUSAND: f64 = 1e3;

/// `cost`: a month at rest, launches, and the prices that both rest on.
pub(crate) fn cost(asked: &Cost, screen: &mut Screen) {
    let Cost { hosts, instances, launches_per_month, gigabytes, alarms } = *asked;
    let rest = Rest { hosts, instances, gigabytes, alarms };
    let at_rest = rest::lines(&rest);
    let launches = launches_per_month as f64;
    let both =
        |way, n| launch::usd(Phase::Launch, way, n) + launch::usd(Phase::Termination, way, n);
    let launches_usd = both(Way::Alone, launches);
    let month_usd = total_usd(&at_rest) + launches_usd;
    let answer = json!({
        "region": "us-east-1",
        "currency": "USD",
        "at_rest": { "of": rest, "lines": at_rest, "total_usd": total_usd(&at_rest) },
        "launches": ways(Phase::Launch),
        "terminations": ways(Phase::Termination),
        "month": {
            "launches": launches_per_month,
            "launches_and_terminations_usd": launches_usd,
            "total_usd": month_usd,
        },
        "prices": prices::ALL,
    });
    screen.either(&answer, |screen| {
        let bold = |text: String| screen.ink(crate::show::Ink::Bold, text);
        let parts = [
            bold(format!("A month at rest: {hosts} hosts that run {instances} instances")),
            at_rest_table(screen, &at_rest),
            bold("A million launches, until they run; in dollars".to_owned()),
            ways_table(screen, Phase::Launch),
            bold("A million terminations".to_owned()),
            ways_table(screen, Phase::Termination),
            bold(format!(
                "A month with {launches_per_month} launches that end: ${month_usd:.2}, of which \
                 launches and terminations ${launches_usd:.2}"
            )),
            bold("Prices in us-east-1".to_owned()),
            prices_table(screen),
            screen.wrapped(NOTES, 0),
        ];
        parts.join("\n\n")
    });
}

/// What the numbers leave open.
const NOTES: &str = "As JSON each price names AWS's page of it. Free tiers, logs, traces and data transfer are left out. Counted: requests of \
    the local plane, which a test holds to this table. Assumed: 256 MB and 20 ms for each message \
    or request; a workflow of 8 transitions for a launch and of 10 for a termination, without a bus, \
    queues or dead letters, and 1 s and 2 s of an Express one. What users ask besides launching and \
    terminating is not in it.";

fn ways(phase: Phase) -> Value {
    let one = |way: &Way| {
        json!({
            "way": way,
            "per_million": launch::lines(phase, *way, MILLION),
            "per_million_usd": launch::usd(phase, *way, MILLION),
            "per_million_without_http_api_usd": without_http(phase, *way, MILLION),
            "per_thousand_usd": launch::usd(phase, *way, THOUSAND),
        })
    };
    WAYS.iter().map(one).collect()
}

fn without_http(phase: Phase, way: Way, n: f64) -> f64 {
    let lines = launch::lines(phase, way, n);
    lines.iter().filter(|line| line.what != "HTTP API requests").map(|line| line.usd).sum()
}

fn at_rest_table(screen: &Screen, lines: &[Line]) -> String {
    let row = |line: &Line| vec![line.what.to_owned(), count(line.count), usd(line.usd)];
    let mut rows: Vec<_> = lines.iter().map(row).collect();
    rows.push(vec!["total".to_owned(), String::new(), usd(total_usd(lines))]);
    screen.table(&["WHAT", "HOW MANY", "$ A MONTH"], rows)
}

fn ways_table(screen: &Screen, phase: Phase) -> String {
    let all = WAYS.map(|way| launch::lines(phase, way, MILLION));
    let mut rows = Vec::new();
    for (at, line) in all[0].iter().enumerate() {
        let mut row = vec![line.what.to_owned()];
        row.extend(all.iter().map(|lines| match lines[at].count {
            0.0 => "-".to_owned(),
            of => format!("{:>6.2} ({})", lines[at].usd, count(of / MILLION)),
        }));
        rows.push(row);
    }
    let mut sums = |what: &str, of: &dyn Fn(Way) -> f64| {
        let mut row = vec![what.to_owned()];
        row.extend(WAYS.map(|way| format!("{:>6.2}", of(way))));
        rows.push(row);
    };
    sums("without the HTTP API", &|way| without_http(phase, way, MILLION));
    sums("total", &|way| launch::usd(phase, way, MILLION));
    let mut row = vec!["a thousand".to_owned()];
    row.extend(WAYS.map(|way| format!("{:>7.3}", launch::usd(phase, way, THOUSAND))));
    rows.push(row);
    screen.table(&["$ (EACH)", "ONE BY ONE", "BY 5", "STANDARD", "EXPRESS"], rows)
}

fn prices_table(screen: &Screen) -> String {
    let row = |price: &Price| {
        let per = if price.per > 1.0 { "a million" } else { "each" };
        vec![price.what.to_owned(), format!("{} {per}", price.usd), price.known.text().to_owned()]
    };
    screen.table(&["PRICE OF", "$", "KNOWN FROM"], prices::ALL.iter().map(row).collect())
}

fn usd(amount: f64) -> String {
    format!("{amount:>7.2}")
}

/// A number in as few digits as say it.
fn count(n: f64) -> String {
    match n {
        1e6.. => format!("{:.2} million", n / 1e6),
        100.0.. => format!("{n:.0}"),
        _ => {
            let text = format!("{n:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}
