//! The README's session does what it says.

mod page;

use page::{Block, Terminal, blocks};

#[test]
fn every_command_of_the_session_succeeds() {
    let blocks = blocks("README.md");
    let session = blocks.iter().find(|block| block.info == "sh session").expect("a session");
    let (up, rest) = session.code.split_once('\n').expect("lines");
    assert!(rest.lines().count() > 2, "the session is there: {rest}");
    let mut terminal = Terminal::open();
    let run = |terminal: &mut Terminal, code: String, promised: &[&str]| {
        let promised = promised.iter().map(|line| (*line).to_owned()).collect();
        terminal.run(&Block { info: "sh".to_owned(), code, promised });
    };
    // It has a terminal of its own there.
    run(&mut terminal, format!("{up} &\n"), &["ready: http://…"]);
    run(&mut terminal, rest.to_owned(), &[]);
    let host: Vec<&Block> = blocks.iter().filter(|block| block.info == "sh host").collect();
    assert_eq!(host.len(), 2, "the host's session is there");
    for block in host {
        terminal.run(block);
    }
}
