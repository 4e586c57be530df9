//! The terminal: raw while this lives, and as it was before afterwards, also after a panic.

use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;

use super::view::{Key, View};

/// Keys that wait to be seen.
const KEYS_MAX: usize = 64;
/// Interval at which the thread that reads keys looks whether it is needed.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// Whether the terminal is raw.
static IS_RAW: AtomicBool = AtomicBool::new(false);

/// An event of the terminal.
pub(super) enum Input {
    Key(Key),
    Resized,
}

/// The terminal while it shows a view.
pub(super) struct Screen {
    input: mpsc::Receiver<Input>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        IS_RAW.store(true, Ordering::Release);
        let (sender, input) = mpsc::channel(KEYS_MAX);
        // From here on dropping it gives the terminal back.
        let screen = Self { input };
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        std::thread::Builder::new().name("mq-keys".to_owned()).spawn(move || read_keys(&sender))?;
        Ok(screen)
    }

    /// The next event; `None` if none can come any more. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Input> {
        self.input.recv().await
    }

    /// Draws the view over what was there.
    pub(super) fn draw(&mut self, view: &mut View) -> io::Result<()> {
        let (columns, rows) = size()?;
        let mut out = io::stdout().lock();
        for (row, line) in view.lines(columns.into(), rows.into()).iter().enumerate() {
            let row = u16::try_from(row).unwrap_or(u16::MAX);
            queue!(out, MoveTo(0, row))?;
            out.write_all(line.as_bytes())?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once.
fn restore() {
    if IS_RAW.swap(false, Ordering::AcqRel) {
        // A terminal that is gone needs nothing.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Passes keys on until nobody waits for them.
fn read_keys(sender: &mpsc::Sender<Input>) {
    loop {
        match poll(LOOK_EVERY) {
            Ok(false) if sender.is_closed() => return,
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let input = match read() {
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
                Input::Key(match key.code {
                    KeyCode::Char('c') if is_control => Key::Quit,
                    KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                    KeyCode::Up | KeyCode::Char('k') => Key::Up,
                    KeyCode::Down | KeyCode::Char('j') => Key::Down,
                    KeyCode::PageUp => Key::PageUp,
                    KeyCode::PageDown => Key::PageDown,
                    KeyCode::Enter | KeyCode::Char(' ') => Key::Open,
                    KeyCode::Char(letter) => Key::Letter(letter),
                    _ => continue,
                })
            }
            Ok(_) => continue,
            Err(_) => return,
        };
        if sender.blocking_send(input).is_err() {
            return;
        }
    }
}
