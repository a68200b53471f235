//! systemd's journal, by its own protocol: a datagram of lines `FIELD=value`. (A value with an end of line in it would be
//! written in another way; there is none here.)

use std::io;
use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Longer ones would need another way, too.
const LONGEST: usize = 32 << 10;

pub struct Journald(UnixDatagram);

impl Journald {
    /// If there is one.
    pub fn find() -> io::Result<Journald> {
        let journald = Journald(UnixDatagram::unbound()?);
        // Nothing is what it drops.
        journald.0.send_to(&[], SOCKET)?;
        Ok(journald)
    }

    /// `priority`: as syslog has it. The message is one line.
    pub fn tell(&self, priority: u8, message: &str, place: (&str, u32)) -> io::Result<()> {
        let message = &message[..message.floor_char_boundary(LONGEST)];
        let (file, line) = place;
        let entry = format!(
            "PRIORITY={priority}\nSYSLOG_IDENTIFIER=wholefs\nCODE_FILE={file}\nCODE_LINE={line}\nMESSAGE={message}\n"
        );
        // Not connected: it may be begun anew meanwhile.
        self.0.send_to(entry.as_bytes(), SOCKET).map(drop)
    }
}
