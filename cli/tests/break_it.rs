//! The page about breaking it does what it says.

mod page;

use page::{Terminal, blocks, missing};

#[test]
fn every_fault_of_the_page_ends_as_the_page_says() {
    let blocks = blocks("BREAK-IT.md");
    let mut terminal = Terminal::open();
    for block in &blocks {
        assert!(["sh", "sh again"].contains(&&block.info[..]), "{block:?} is not run");
        terminal.run(block);
    }
    assert!(blocks.len() > 15, "the page is there: {blocks:#?}");
}

#[test]
fn what_is_promised_has_to_be_said_in_this_order() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let said = lines("network   open    2026-11-25  0\nready: http://127.0.0.1:1 (12 hosts)");
    for (promised, right) in [
        ("network open … 0", None),
        ("network open …\nready: … (12 hosts)", None),
        ("… (12 hosts)", None),
        ("network open", Some("network open")),
        ("network open … 1", Some("network open … 1")),
        ("ready: …\nnetwork …", Some("network …")),
        ("open … 0", Some("open … 0")),
    ] {
        assert_eq!(missing(&lines(promised), &said), right, "{promised}");
    }
}
