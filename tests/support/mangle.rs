//! A proxy that carries each request out, and then may spoil the answer: cut off, contradicted, in another
//! form, about another place, or plain nonsense. What is done is a function of a seed and the answer's turn.
//!
//! An object's bytes are not changed in place: nothing but TLS could find that out.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// xorshift64*
pub struct Random(pub u64);

impl Random {
    /// From 0 to less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

struct Plot {
    seed: u64,
    /// One answer in so many.
    one_in: u64,
    answers: AtomicU64,
    spoilt: AtomicU64,
    /// Of these, those by which uploads are known: what began one, and what lists those that are open.
    of_uploads: AtomicU64,
    on: AtomicBool,
}

pub struct Mangler {
    pub endpoint: String,
    plot: Arc<Plot>,
}

impl Mangler {
    /// In front of `http://ADDRESS`; lets everything pass until it is [`begin`](Self::begin)ned. It lives
    /// as long as the process: its thread waits for connections and costs nothing.
    pub fn to(endpoint: &str, seed: u64, one_in: u64) -> Mangler {
        let upstream = endpoint
            .strip_prefix("http://")
            .expect("plain HTTP")
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let plot = Arc::new(Plot {
            seed,
            one_in,
            answers: AtomicU64::new(0),
            spoilt: AtomicU64::new(0),
            of_uploads: AtomicU64::new(0),
            on: AtomicBool::new(false),
        });
        let shared = plot.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (plot, upstream) = (shared.clone(), upstream.clone());
                // An error is a connection that was dropped, by whoever.
                std::thread::spawn(move || serve(stream, &upstream, &plot).ok());
            }
        });
        Mangler {
            endpoint: format!("http://{address}"),
            plot,
        }
    }

    pub fn begin(&self) {
        self.plot.on.store(true, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.plot.on.store(false, Ordering::Relaxed);
    }

    pub fn spoilt(&self) -> u64 {
        self.plot.spoilt.load(Ordering::Relaxed)
    }

    /// How many told a wrong id of an upload that had begun, or a wrong list of those that were open: by such
    /// an answer an upload may be lost for good, whoever asks.
    pub fn spoilt_of_uploads(&self) -> u64 {
        self.plot.of_uploads.load(Ordering::Relaxed)
    }
}

fn serve(mut client: TcpStream, upstream: &str, plot: &Plot) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(120)))?;
    client.set_nodelay(true)?;
    let mut held = Vec::new();
    while let Some(request) = Message::read(&mut client, &mut held, true)? {
        let mut store = TcpStream::connect(upstream)?;
        store.set_nodelay(true)?;
        store.write_all(&request.bytes())?;
        let is_head = request.head.starts_with("HEAD ");
        let mut more = Vec::new();
        let mut answer = loop {
            match Message::read(&mut store, &mut more, !is_head)? {
                Some(go_on) if go_on.head.starts_with("HTTP/1.1 100") => {}
                Some(answer) => break answer,
                None => return Ok(()),
            }
        };
        let turn = plot.answers.fetch_add(1, Ordering::Relaxed);
        let mut random = Random(((plot.seed << 32) | turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.below(1);
        let spoil = plot.on.load(Ordering::Relaxed) && random.below(plot.one_in) == 0;
        if spoil {
            plot.spoilt.fetch_add(1, Ordering::Relaxed);
            let object = request.head.starts_with("GET /") && answer.has("content-range");
            let query = request
                .head
                .split(' ')
                .nth(1)
                .and_then(|uri| uri.split_once('?'));
            let names = |name: &str| {
                query.is_some_and(|(_, query)| {
                    query
                        .split('&')
                        .any(|pair| pair.split('=').next() == Some(name))
                })
            };
            if names("uploads") {
                plot.of_uploads.fetch_add(1, Ordering::Relaxed);
            }
            spoil_answer(&mut answer, &mut random, object, is_head);
            client.write_all(&answer.bytes())?;
            // Its length may be a lie: nothing can follow.
            return Ok(());
        }
        client.write_all(&answer.bytes())?;
    }
    Ok(())
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n")
}

/// A request or an answer: its head without the empty line at the end, and its body.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// `None` at the end of the connection. `held` has what was read too much.
    fn read(
        stream: &mut TcpStream,
        held: &mut Vec<u8>,
        with_body: bool,
    ) -> std::io::Result<Option<Message>> {
        let mut buffer = vec![0; 1 << 16];
        let mut more = |held: &mut Vec<u8>| -> std::io::Result<bool> {
            let n = stream.read(&mut buffer)?;
            held.extend_from_slice(&buffer[..n]);
            Ok(n > 0)
        };
        let end = loop {
            if let Some(at) = end_of_head(held) {
                break at;
            }
            if !more(held)? {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&held[..end]).into_owned();
        held.drain(..end + 4);
        let mut message = Message {
            head,
            body: Vec::new(),
        };
        let length = message.get("content-length").and_then(|n| n.parse().ok());
        let length: usize = if with_body { length.unwrap_or(0) } else { 0 };
        while held.len() < length {
            if !more(held)? {
                return Ok(None);
            }
        }
        message.body = held.drain(..length).collect();
        Ok(Some(message))
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n\r\n", &self.body].concat()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (its, value) = line.split_once(':')?;
            its.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn drop_header(&mut self, name: &str) {
        let lines = self.head.lines().enumerate().filter(|(n, line)| {
            let its = line.split_once(':').map_or("", |(its, _)| its);
            *n == 0 || !its.eq_ignore_ascii_case(name)
        });
        self.head = lines.map(|(_, line)| line).collect::<Vec<_>>().join("\r\n");
    }

    fn set(&mut self, name: &str, value: &str) {
        self.drop_header(name);
        self.head.push_str(&format!("\r\n{name}: {value}"));
    }

    fn status(&mut self, status: &str) {
        let rest = self.head.split_once("\r\n").map_or("", |(_, rest)| rest);
        self.head = format!("HTTP/1.1 {status}\r\n{rest}");
    }

    /// Another body, of the length it has.
    fn say(&mut self, body: Vec<u8>) {
        self.set("content-length", &body.len().to_string());
        self.body = body;
    }
}

const STATUSES: [&str; 18] = [
    "200 OK",
    "204 No Content",
    "206 Partial Content",
    "301 Moved",
    "302 Found",
    "304 Same",
    "307 Elsewhere",
    "400 Bad",
    "401 Who",
    "403 No",
    "404 Gone",
    "409 Conflict",
    "412 Otherwise",
    "416 Range",
    "429 Less",
    "500 Broken",
    "501 Never",
    "503 Busy",
];

const DATES: [&str; 8] = [
    "2026-11-24T10:21:29Z",
    "2026-11-24T10:21:29.123456789Z",
    "2026-11-24T10:21:29+02:00",
    "Tue, 24 Nov 2026 10:21:29 GMT",
    "Tuesday, 24-Nov-26 10:21:29 GMT",
    "1795515689",
    "yesterday",
    "",
];

const CODES: [&str; 12] = [
    "SlowDown",
    "InternalError",
    "NoSuchUpload",
    "NoSuchKey",
    "NoSuchBucket",
    "AccessDenied",
    "PreconditionFailed",
    "InvalidPart",
    "RequestTimeout",
    "OperationAborted",
    "NotImplemented",
    "Unheard",
];

/// Is said of an object that is being read: its bytes stay, or end early.
fn spoil_answer(answer: &mut Message, random: &mut Random, object: bool, is_head: bool) {
    match random.below(if object || is_head { 12 } else { 19 }) {
        0 => answer.drop_header("etag"),
        1 => {
            let etag = answer
                .get("etag")
                .unwrap_or("x")
                .trim_matches('"')
                .to_owned();
            let form = random.of(&["E", "W/\"E\"", "\"E", "\"\"", "\"other\"", " \"E\" "]);
            answer.set("etag", &form.replace('E', &etag));
        }
        2 => answer.status(random.of(&STATUSES)),
        3 => {
            let kept = random.below(answer.body.len() as u64 + 1) as usize;
            answer.body.truncate(kept);
        }
        4 => answer.drop_header("content-length"),
        5 => {
            // One that says less of an object than there is of it is for another version.
            let length: u64 = answer
                .get("content-length")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            let lie = match random.below(3) {
                0 => length + 1 + random.below(100),
                1 => u64::MAX,
                _ if is_head => length + 1,
                _ => length.saturating_sub(1 + random.below(100)),
            };
            answer.set("content-length", &lie.to_string());
        }
        6 => answer.set("last-modified", random.of(&DATES)),
        7 => {
            let range = [
                "bytes 0-0/1",
                "bytes 5-1/3",
                "bytes */10",
                "0-1/2",
                "bytes 0-18446744073709551615/1",
            ];
            answer.set("content-range", random.of(&range));
        }
        8 => answer.drop_header("content-range"),
        9 => {
            answer.status(random.of(&["301 Moved", "307 Elsewhere", "400 Bad"]));
            answer.set("x-amz-bucket-region", "eu-nowhere-7");
            answer.set("location", "http://127.0.0.1:1/elsewhere");
            answer.say(b"<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1:1</Endpoint><Region>eu-nowhere-7</Region></Error>".to_vec());
        }
        10 => {
            let code = random.of(&CODES);
            let body = format!("<Error><Code>{code}</Code><Message>spoilt</Message></Error>");
            answer.status(random.of(&STATUSES));
            answer.say(body.into_bytes());
        }
        11 => {
            answer.head = random
                .of(&[
                    "HTTP/1.1 200 OK",
                    "HTTP/0.9 what",
                    "\u{7f}ELF",
                    "HTTP/1.1 999 ?",
                    "",
                ])
                .into();
            if random.below(2) == 0 {
                answer.say(Vec::new());
            }
        }
        _ => spoil_xml(answer, random),
    }
}

fn spoil_xml(answer: &mut Message, random: &mut Random) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let body: String = match random.below(9) {
        0 => text.replace(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", ""),
        1 => text.replacen("Result>", "Result xmlns=\"urn:other\">", 1),
        2 => format!("{}{text}", " \r\n".repeat(1 + random.below(50) as usize)),
        3 => text
            .split_once("?>")
            .map_or(text.clone(), |(_, rest)| rest.to_owned()),
        4 => {
            // An element's text is another.
            let starts: Vec<usize> = text.match_indices('>').map(|(at, _)| at + 1).collect();
            let from = starts.get(random.below(starts.len().max(1) as u64) as usize);
            let from = from.copied().unwrap_or(0);
            let to = text[from..].find('<').map_or(text.len(), |n| from + n);
            let other = random.of(&[
                "",
                "0",
                "-1",
                "99999999999999999999",
                "true",
                "&bad;",
                "\u{1}",
                DATES[1],
            ]);
            format!("{}{other}{}", &text[..from], &text[to..])
        }
        5 => text.replace("Initiate", "").replace("&quot;", ""),
        6 => (0..random.below(300))
            .map(|_| random.below(256) as u8 as char)
            .collect(),
        7 => "<html><body>Sign in to the network</body></html>".into(),
        _ => {
            let mut bytes = answer.body.clone();
            if !bytes.is_empty() {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.below(256) as u8;
            }
            return answer.say(bytes);
        }
    };
    answer.say(body.into_bytes());
}
