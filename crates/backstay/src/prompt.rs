//! Asking a person for a secret, without echo.

use ops::{Exit, Failure};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use zeroize::{Zeroize, Zeroizing};

const SECRET_BYTES_MAX: usize = 1024;

/// Whether there is a person to ask.
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a secret on the terminal.
///
/// # Errors
/// `interrupted` when the person presses ^C; `no-key` when there is no terminal.
pub fn secret(question: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::new(Exit::WrongKey, "no-key", format!("cannot ask for the key: {e}"))
            .help("name it with --key-file, --key-command, BACKSTAY_KEY or BACKSTAY_KEY_FILE")
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|e| failed(&e))?;
    let silence = Silence::on(&terminal).map_err(|e| failed(&e))?;
    terminal.write_all(crate::render::clean(question).as_bytes()).map_err(|e| failed(&e))?;
    let line = read_line(&mut terminal);
    drop(silence);
    // The terminal did not echo the line end; that it cannot be written is no reason to lose the answer.
    drop(terminal.write_all(b"\n"));
    let line = line.map_err(|e| failed(&e))?;
    let line = line.ok_or_else(|| Failure::new(Exit::Interrupted, "interrupted", "interrupted"))?;
    let text = std::str::from_utf8(&line).map_err(|_| failed(&"it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Asks twice for a new secret.
///
/// # Errors
/// As [`secret`]; `key-mismatch` when the answers differ.
pub fn new_secret(question: &str) -> Result<Zeroizing<String>, Failure> {
    let first = secret(question)?;
    let second = secret("the same again: ")?;
    if *first != *second {
        return Err(Failure::new(Exit::Failed, "key-mismatch", "the two answers differ").help("try again"));
    }
    Ok(first)
}

/// A terminal that neither echoes nor turns ^C into a signal, until this is dropped: a process that a signal ended
/// meanwhile would leave it silent.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn on(terminal: &File) -> std::io::Result<Silence> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Silence { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is nobody left to tell when the terminal is gone.
        tcsetattr(&self.terminal, OptionalActions::Flush, &self.before).unwrap_or_default();
    }
}

/// A line without its end; `None` for ^C.
fn read_line(from: &mut dyn Read) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
    let mut byte = [0u8];
    loop {
        let read = from.read(&mut byte)?;
        match byte[0] {
            _ if read == 0 => break,
            b'\r' | b'\n' | 0x04 => break,
            0x03 | 0x1c => return Ok(None),
            0x08 | 0x7f => {
                // A whole character, not one byte of it.
                while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
            }
            0x15 => line.clear(),
            _ if line.len() == SECRET_BYTES_MAX => return Err(std::io::Error::other("it is too long")),
            b => line.push(b),
        }
    }
    byte.zeroize();
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_a_person_types_it() {
        let typed = |bytes: &[u8]| read_line(&mut &*bytes).expect("reads").map(|line| line.to_vec());
        assert_eq!(typed(b"secret\n"), Some(b"secret".to_vec()));
        assert_eq!(typed("ab\u{e9}\u{7f}c\r".as_bytes()), Some(b"abc".to_vec()));
        assert_eq!(typed(b"wrong\x15right"), Some(b"right".to_vec()));
        assert_eq!(typed(b"half\x03"), None);
    }
}
