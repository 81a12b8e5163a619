//! What nothing brings back is done only if its name was given once more, or is typed now.

use crate::problem::Problem;
use crate::show::Screen;
use std::io::{BufRead, IsTerminal};

/// Whose things go: its name, what it is, and the option that repeats the name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// Such as `stack`.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Such as `--yes-delete`.
    pub(crate) option: &'static str,
}

/// The process's own standard input, if a person sits there: whoever pipes something in has read
/// nothing of what is about to go.
pub(crate) fn person() -> Option<impl BufRead> {
    let stdin = std::io::stdin();
    stdin.is_terminal().then(|| stdin.lock())
}

/// Goes on only if the owner's name was given once more, or is typed now.
pub(crate) fn confirm(
    owner: Owner<'_>,
    given: Option<&str>,
    typed: Option<&mut dyn BufRead>,
    screen: &mut Screen,
) -> Result<(), Problem> {
    let Owner { kind, name, option } = owner;
    let said = match (given, typed) {
        (Some(given), _) => given.to_owned(),
        (None, None) => {
            let message = format!(
                "nobody can be asked here, so nothing is deleted; `{option} {name}` says that it is \
                 meant"
            );
            return Err(Problem::Input(message));
        }
        (None, Some(typed)) => {
            screen.aside(format!("type the name of the {kind} to delete this: {name}"));
            let mut line = String::new();
            let read = typed.read_line(&mut line);
            read.map_err(|error| Problem::Input(format!("nothing could be read: {error}")))?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if said == name {
        return Ok(());
    }
    Err(Problem::Input(format!("`{said}` is not `{name}`: nothing was deleted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_name_confirms() {
        let owner = Owner { kind: "function", name: "network", option: "--yes-purge" };
        let said = |given: Option<&str>, typed: Option<&str>| {
            let mut screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
            let mut typed = typed.map(str::as_bytes);
            let typed = typed.as_mut().map(|typed| typed as &mut dyn BufRead);
            confirm(owner, given, typed, &mut screen).map_err(|problem| problem.to_string())
        };
        for (given, typed) in
            [(Some("network"), None), (None, Some("network\n")), (None, Some("network\r\n"))]
        {
            assert_eq!(said(given, typed), Ok(()), "{given:?} {typed:?}");
        }
        for (given, typed, why) in [
            (Some("storage"), Some("network\n"), "`storage` is not `network`"),
            (None, Some("yes\n"), "`yes` is not `network`"),
            (None, Some(""), "`` is not `network`"),
            (None, None, "`--yes-purge network` says that it is meant"),
        ] {
            let error = said(given, typed).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
