//! A resident host as a process of its own: started, asked over HTTP, told to stop.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A host that runs.
pub struct Host {
    pub child: Child,
    pub address: String,
    log: Captured,
    output: Captured,
}

/// What a process writes to one of its outputs, line by line.
struct Captured {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(output: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// All of it, once the process has ended.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}

/// What a host that ended in good order leaves behind.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Standard error.
    pub log: String,
    /// Standard output.
    pub output: String,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    /// Starts a host and waits until it serves. Its log goes to standard error, apart from artifacts.
    pub fn start(command: &mut Command) -> Self {
        let mut child =
            command.args(["--log-to", "stderr"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Captured::of(child.stderr.take().unwrap());
        let output = Captured::of(child.stdout.take().unwrap());
        let mut host = Self { child, address: String::new(), log, output };
        host.address = host.until("it serves", |host| {
            let log = host.log();
            let (_, rest) = log.split_once("status, metrics and search at http://")?;
            // The rest of a line is an address, and of a JSON object what follows it.
            let end = rest.find(['\n', '"'])?;
            Some(rest[..end].to_owned())
        });
        host
    }

    /// Everything that was logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until something is there.
    pub fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "not until {what}: {ended:?}\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks over HTTP: status and body.
    pub fn get(&self, target: &str) -> (u16, String) {
        let (status, _, body) = self.ask(target, "");
        (status, body)
    }

    /// Asks over HTTP with more headers, each with its line end: status, head and body.
    pub fn ask(&self, target: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
    }

    /// The status page.
    pub fn status(&self) -> Value {
        let (status, body) = self.get("/status");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// An instance on the status page.
    pub fn instance(&self, name: &str) -> Option<Value> {
        self.status()["instances"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned()
    }

    /// Waits until an instance is in a state.
    pub fn until_state(&mut self, name: &str, state: &str) -> Value {
        self.until(&format!("{name} is {state}"), |host| host.instance(name).filter(|one| one["state"] == state))
    }

    /// The lines of the configuration's problems.
    pub fn problems(&self) -> Vec<(u64, String)> {
        let status = self.status();
        let problems = status["host"]["config"]["problems"].as_array().unwrap();
        problems.iter().map(|one| (one["line"].as_u64().unwrap(), one["code"].as_str().unwrap().to_owned())).collect()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Stops it in good order.
    pub fn stop(self, signal: &str) -> Ended {
        self.signal(signal);
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let (log, output) = (self.log.all(), self.output.all());
                let code = status.code().unwrap_or_else(|| panic!("it was killed: {status:?}\n{log}"));
                return Ended { code, log, output };
            }
            assert!(began.elapsed() < PATIENCE, "it does not end\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}
