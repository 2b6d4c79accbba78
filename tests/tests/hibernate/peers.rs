//! Who talks to a VM: clients, a holder of QMP, the desktop application.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use avocado_vm::dir::{StateDir, StateFile};
use serde_json::{Value, json};

use crate::harness::{LONG, SmallGuestVm};

/// A client of the small guest's service.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) reader: BufReader<TcpStream>,
    /// Which boot of the guest answered, and the number of this connection.
    pub(crate) boot: String,
    pub(crate) count: u64,
}

impl Client {
    pub(crate) fn connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut banner = String::new();
        reader.read_line(&mut banner)?;
        let words: Vec<&str> = banner.split_whitespace().collect();
        match words[..] {
            ["SSH-2.0-small", boot, count] => Ok(Client {
                boot: boot.to_owned(),
                count: count.parse().unwrap(),
                stream,
                reader,
            }),
            _ => Err(std::io::Error::other(format!("no banner but {banner:?}"))),
        }
    }

    /// Says something and hears it again.
    pub(crate) fn talk(&mut self, text: &str) {
        self.stream
            .write_all(format!("{text}\n").as_bytes())
            .unwrap();
        let mut heard = String::new();
        self.reader.read_line(&mut heard).unwrap();
        assert_eq!(heard.trim_end(), text);
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What a client hears that connects there and is sent away.
pub(crate) fn refused(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A client of the QMP socket that is for other programs.
pub(crate) struct Qmp {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Qmp {
    pub(crate) fn connect(dir: &StateDir) -> Qmp {
        let stream = UnixStream::connect(dir.file(StateFile::Qmp)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut qmp = Qmp { stream, reader };
        qmp.tell("qmp_capabilities");
        qmp
    }

    pub(crate) fn tell(&mut self, command: &str) {
        let line = json!({ "execute": command }).to_string();
        self.stream.write_all(line.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            assert!(
                self.reader.read_line(&mut line).unwrap() > 0,
                "no answer to {command}"
            );
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer.get("return").is_some() {
                return;
            }
            assert!(answer.get("error").is_none(), "{answer}");
        }
    }
}

/// The desktop application: hears hints.
pub(crate) struct Desktop {
    hints: std::sync::mpsc::Receiver<(String, Value)>,
}

impl Desktop {
    /// Listens where the launch of `vm` says from now on.
    pub(crate) fn listen(vm: &mut SmallGuestVm) -> Desktop {
        let path = vm.place.path().join("desktop.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        vm.launch.notify = Some(path);
        let (sender, hints) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let hint: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(hint["id"], 1);
                let _ = stream.write_all(b"{\"result\":null,\"id\":1}\n");
                let method = hint["method"].as_str().unwrap().to_owned();
                if sender.send((method, hint["params"].clone())).is_err() {
                    return;
                }
            }
        });
        Desktop { hints }
    }

    pub(crate) fn next(&self) -> (String, Value) {
        self.hints.recv_timeout(LONG).unwrap()
    }

    pub(crate) fn rest(&self) -> Vec<String> {
        self.hints.try_iter().map(|(method, _)| method).collect()
    }
}
