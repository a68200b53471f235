//! systemd's journal, by its own protocol: a datagram of lines `FIELD=value`. (A value with an end of line in it would be
//! written in another way; there is none here.)

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use super::hearer::{Hearer, PATIENCE};

const SOCKET: &str = "/run/systemd/journal/socket";

/// Longer ones would need another way, too.
const LONGEST: usize = 32 << 10;

pub struct Journald {
    socket: UnixDatagram,
    hearer: Mutex<Hearer>,
}

impl Journald {
    /// If there is one.
    pub fn find() -> io::Result<Journald> {
        let socket = UnixDatagram::unbound()?;
        // Nothing is what it drops.
        socket.send_to(&[], SOCKET)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let hearer = Mutex::default();
        Ok(Journald { socket, hearer })
    }

    /// `priority`: as syslog has it. The message is one line.
    pub fn tell(&self, priority: u8, message: &str, place: (&str, u32)) {
        let (file, line) = place;
        let send = |message: &str| {
            let message = message.trim_end();
            let message = &message[..message.floor_char_boundary(LONGEST)];
            let entry = format!(
                "PRIORITY={priority}\nSYSLOG_IDENTIFIER=wholefs\nCODE_FILE={file}\nCODE_LINE={line}\nMESSAGE={message}\n"
            );
            // Not connected: it may be begun anew meanwhile.
            self.socket.send_to(entry.as_bytes(), SOCKET).is_ok()
        };
        let mut hearer = self.hearer.lock().unwrap_or_else(|e| e.into_inner());
        let _ = self.socket.set_nonblocking(!hearer.is_waited_for());
        hearer.tell(message, send);
    }
}
