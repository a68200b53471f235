//! A service that gives keys, as a cloud's do: the machine's metadata, a container's agent, STS, single sign-on. One
//! thread on loopback; a test says what it answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked of it.
pub struct Asked {
    pub method: String,
    /// With what is asked behind a `?`.
    pub path: String,
    /// Each on a line, its name in lower case.
    pub headers: String,
    pub body: String,
}

/// What it answers, if it has such a thing.
pub type Answers = Box<dyn Fn(&Asked, &Keys) -> Option<String> + Send>;

/// What it gives, to be changed while it runs.
pub struct Keys {
    pub id: String,
    /// As RFC 3339 has it.
    pub expires: String,
}

pub struct KeyService {
    pub endpoint: String,
    keys: Arc<Mutex<Keys>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl KeyService {
    pub fn start(keys: Keys, answers: Answers) -> KeyService {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let keys = Arc::new(Mutex::new(keys));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (current, log) = (keys.clone(), asked.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(question) = read(&stream) else {
                    continue;
                };
                let answer = answers(&question, &current.lock().expect("no panic while held"));
                let line = format!("{} {}", question.method, question.path);
                if answer.is_some() {
                    log.lock().expect("no panic while held").push(line);
                }
                let _ = write(stream, answer);
            }
        });
        KeyService {
            endpoint: format!("http://127.0.0.1:{port}"),
            keys,
            asked,
        }
    }

    pub fn gives(&self, keys: Keys) {
        *self.keys.lock().expect("no panic while held") = keys;
    }

    /// What was answered, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic while held").clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            if name == "content-length" {
                length = value.parse().ok()?;
            }
            headers += &format!("{name}: {value}\n");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn write(mut stream: TcpStream, answer: Option<String>) -> std::io::Result<()> {
    let (status, text) = match answer {
        Some(text) => ("200 OK", text),
        None => ("404 Not Found", String::new()),
    };
    // The token of a machine's metadata says how long it lives.
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}
