//! The command as somebody types it against a site, with pipes for a screen.

use eventplane::Screen;
use eventplane_tests::site::Site;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A pipe that remembers.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("text")
    }
}

/// Runs the command against the site: exit code, standard output, standard error.
pub(crate) async fn run(site: &Site, words: &[&str]) -> (u8, String, String) {
    let endpoint = format!("http://{}", site.plane.address());
    let words: Vec<String> = ["eventplane", "--endpoint", &endpoint]
        .iter()
        .chain(words)
        .map(|word| (*word).to_owned())
        .collect();
    let (out, err) = (Pipe::default(), Pipe::default());
    let mut screen = Screen::pipes(Box::new(out.clone()), Box::new(err.clone()));
    // It makes a runtime of its own, which it may not do within this one.
    let ran = tokio::task::spawn_blocking(move || {
        eventplane::run(words.into_iter().map(Into::into), &mut screen)
    });
    (ran.await.expect("it ends"), out.text(), err.text())
}
