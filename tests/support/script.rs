//! An HTTP/1.1 server that answers byte for byte what a test says, and remembers what it was asked:
//! for the answers no sane server gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

pub enum Reply {
    /// Status, further headers, body; Content-Length is added.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, then one more `x` now and then.
    Trickle(Vec<u8>, Duration),
    /// These bytes, then silence.
    Hang(Vec<u8>),
}

impl Reply {
    pub fn xml(status: u16, body: &str) -> Reply {
        let kind = ("Content-Type", "application/xml".to_string());
        Reply::Answer(status, vec![kind], body.as_bytes().to_vec())
    }

    pub fn error(status: u16, code: &str) -> Reply {
        let body = format!("<Error><Code>{code}</Code><Message>as scripted</Message></Error>");
        Reply::xml(status, &body)
    }
}

pub struct Script {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl Script {
    /// Serves until the process ends. `answer` sees each request, and how many there were before.
    pub fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (log, answer, count) = (asked.clone(), Arc::new(answer), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, answer.as_ref()));
            }
        });
        Script {
            url,
            asked,
            connections,
        }
    }

    /// How many connections there ever were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the log").clone()
    }
}

/// One connection, until either side has enough of it.
fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(usize, &Asked) -> Reply,
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let asked = read(&mut reader)?;
        let before = {
            let mut log = log.lock().ok()?;
            log.push(asked.clone());
            log.len() - 1
        };
        match answer(before, &asked) {
            Reply::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                // The length of HEAD's answer is the object's; 204 has none.
                if asked.method != "HEAD" && status != 204 {
                    head += &format!("Content-Length: {}\r\n", body.len());
                }
                writer.write_all(format!("{head}\r\n").as_bytes()).ok()?;
                writer.write_all(&body).ok()?;
            }
            Reply::Raw(bytes) => {
                writer.write_all(&bytes).ok()?;
                return None;
            }
            Reply::Trickle(bytes, every) => {
                writer.write_all(&bytes).ok()?;
                loop {
                    std::thread::sleep(every);
                    writer.write_all(b"x").ok()?;
                }
            }
            Reply::Hang(bytes) => {
                writer.write_all(&bytes).ok()?;
                // Until the client gives up.
                reader.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next()?.to_string(),
        target: words.next()?.to_string(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        asked
            .headers
            .push((name.to_string(), value.trim().to_string()));
    }
    let length = asked
        .header("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}
