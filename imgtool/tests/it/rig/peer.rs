//! A hostile or broken registry: a small HTTP server whose answers the case decides.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::image::sha256;
use super::registry::loopback_up;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// Where its length was told.
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
pub enum Answer {
    /// Status, headers, body.
    Full(u16, Vec<(String, String)>, Vec<u8>),
    /// 200 with this length, but only these bytes; then the connection breaks.
    Cut(usize, Vec<u8>),
    /// 200 with this length, these bytes, then silence until the client goes.
    Stall(usize, Vec<u8>),
}

pub fn ok(body: &[u8]) -> Answer {
    Answer::Full(200, Vec::new(), body.to_vec())
}

pub fn status(code: u16) -> Answer {
    Answer::Full(code, Vec::new(), Vec::new())
}

/// A running peer; its thread ends with the process.
pub struct Peer {
    pub host: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Peer {
    /// Starts one; `answer` gets each request and its number among those for the same path, from 0.
    pub fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        loopback_up();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (shared, answer) = (Arc::clone(&log), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream, &log, &*answer));
            }
        });
        Self { host, log }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// A peer that serves an image at `x:latest` and lets `change` decide first.
    pub fn with_image(
        parts: (Vec<u8>, Vec<u8>, Vec<u8>),
        change: impl Fn(&Asked, usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let (manifest, config, layer) = parts;
        Self::start(move |asked, nth| {
            if let Some(answer) = change(asked, nth) {
                return answer;
            }
            let path = asked.path.as_str();
            if path == "/v2/" {
                return ok(b"{}");
            }
            if path == "/v2/x/manifests/latest" || path.ends_with(&sha256(&manifest)) {
                let kind = ("content-type".into(), "application/vnd.oci.image.manifest.v1+json".into());
                return Answer::Full(200, vec![kind], manifest.clone());
            }
            let blob = [&config, &layer].into_iter().find(|blob| path.ends_with(&sha256(blob)));
            let Some(blob) = blob else { return status(404) };
            let from = asked
                .header("range")
                .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            match from {
                Some(from) => {
                    let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                    Answer::Full(206, vec![("content-range".into(), range)], blob[from..].to_vec())
                }
                None => ok(blob),
            }
        })
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked, usize) -> Answer) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_request(&mut reader) {
        let nth = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.iter().filter(|one| one.path == asked.path).count() - 1
        };
        let mut out = stream;
        let head = |code: u16, length: usize| format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n");
        // The client may be gone: then so are we.
        match answer(&asked, nth) {
            Answer::Full(code, headers, body) => {
                let mut text = head(code, body.len());
                for (name, value) in headers {
                    text += &format!("{name}: {value}\r\n");
                }
                let body = if asked.method == "HEAD" { Vec::new() } else { body };
                if out.write_all(&[text.as_bytes(), b"\r\n", &body].concat()).is_err() {
                    return;
                }
            }
            Answer::Cut(length, body) => {
                let _ = out.write_all(&[head(200, length).as_bytes(), b"\r\n", &body].concat());
                return;
            }
            Answer::Stall(length, body) => {
                let _ = out.write_all(&[head(200, length).as_bytes(), b"\r\n", &body].concat());
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut asked = Asked { method, path, headers, body: String::new() };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Some(asked)
}
