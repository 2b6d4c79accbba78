use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex};

use super::*;

const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"], \"new\": 1}}\n";
const WELCOME: &str = "{\"return\": {}, \"id\": 1}\n";
const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// What a QEMU heard, line by line.
type Heard = Arc<Mutex<Vec<String>>>;

/// A QEMU that says the first entry at once, and one more after each line that it hears; after the
/// last one it hangs up, or listens until the end.
fn qemu(script: &[&str], hang_up: bool) -> (impl AsyncRead + AsyncWrite + Send + 'static, Heard) {
    let (near, far) = duplex(1 << 16);
    let heard = Heard::default();
    let script: Vec<String> = script.iter().map(|said| (*said).to_owned()).collect();
    let written = heard.clone();
    tokio::spawn(async move {
        let (reader, mut writer) = split(far);
        let mut lines = BufReader::new(reader).lines();
        let mut script = script.iter();
        loop {
            if let Some(said) = script.next() {
                let _ = writer.write_all(said.as_bytes()).await;
            }
            if hang_up && script.len() == 0 {
                return;
            }
            match lines.next_line().await {
                Ok(Some(line)) => written.lock().unwrap().push(line),
                _ => return,
            }
        }
    });
    (near, heard)
}

async fn connected(
    script: &[&str],
    hang_up: bool,
) -> (QmpClient, mpsc::UnboundedReceiver<QmpNotification>, Heard) {
    let script = [&[GREETING, WELCOME], script].concat();
    let (stream, heard) = qemu(&script, hang_up);
    let (qmp, events) = QmpClient::start(stream, Path::new("qmp.sock"), LIMIT)
        .await
        .unwrap();
    (qmp, events, heard)
}

#[tokio::test]
async fn greetings() {
    let refused = "{\"error\": {\"class\": \"x\", \"desc\": \"no\"}, \"id\": 1}\n";
    let event_first = format!("{{\"event\": \"RTC_CHANGE\"}}\n{WELCOME}");
    let table: [(&[&str], bool, &str); 9] = [
        (&[], false, "busy"),
        (&[""], true, "disconnected"),
        (&["SSH-2.0\n"], false, "protocol"),
        (&["{\"return\": {}}\n"], false, "protocol"),
        (&[GREETING], false, "no answer to qmp_capabilities"),
        (&[GREETING, ""], true, "disconnected"),
        (&[GREETING, refused], false, "no"),
        (&[GREETING, &event_first], false, "connected"),
        (&[GREETING, WELCOME], false, "connected"),
    ];
    for (script, hang_up, expected) in table {
        let (stream, _) = qemu(script, hang_up);
        let found = match QmpClient::start(stream, Path::new("qmp.sock"), SHORT).await {
            Ok(_) => "connected".to_owned(),
            Err(QemuError::Busy { .. }) => "busy".to_owned(),
            Err(QemuError::Disconnected { .. }) => "disconnected".to_owned(),
            Err(QemuError::Protocol { .. }) => "protocol".to_owned(),
            Err(QemuError::Timeout { command, .. }) => format!("no answer to {command}"),
            Err(QemuError::Refused { description, .. }) => description,
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(found, expected, "{script:?} {hang_up}");
    }
}

#[tokio::test]
async fn what_is_unknown_is_passed_over() {
    let said = "{\"event\": \"BRAND_NEW\", \"data\": [1], \"more\": {}}\n\
        not even JSON\n{\"id\": \"of another kind\", \"return\": 5}\n\
        {\"return\": 99, \"id\": 99}\n\
        {\"event\": \"STOP\", \"timestamp\": {\"seconds\": -1}}\n\
        {\"return\": {\"status\": \"paused\", \"new\": 1}, \"id\": 2, \"new\": 1}\n";
    let (qmp, mut events, _) = connected(&[said], false).await;
    let answer = qmp.execute("query-status", json!({}), LIMIT).await.unwrap();
    assert_eq!(answer["status"], "paused");
    assert_eq!(events.recv().await.unwrap().name, "BRAND_NEW");
    assert_eq!(events.recv().await.unwrap().name, "STOP");
}

#[tokio::test]
async fn a_late_answer_is_nobody_elses() {
    let both = "{\"return\": \"old\", \"id\": 2}\n{\"return\": \"new\", \"id\": 3}\n";
    let (qmp, _events, _) = connected(&["", both], false).await;
    let late = qmp.execute("stop", json!({}), SHORT).await;
    assert!(matches!(late, Err(QemuError::Timeout { .. })), "{late:?}");
    let answer = qmp.execute("cont", json!({}), LIMIT).await.unwrap();
    assert_eq!(answer, "new");
}

#[tokio::test]
async fn errors_have_qemus_words_and_the_commands_name() {
    let said = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"bad\"}, \"id\": 2}\n";
    let (qmp, _events, _) = connected(&[said], false).await;
    let error = qmp.execute("migrate", json!({}), LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), "migrate failed: bad");
}

#[tokio::test]
async fn the_end_is_told_to_whoever_waits() {
    let (qmp, mut events, _) = connected(&[""], true).await;
    let asked = qmp.execute("stop", json!({}), LIMIT).await;
    assert!(
        matches!(asked, Err(QemuError::Disconnected { .. })),
        "{asked:?}"
    );
    assert_eq!(events.recv().await, None);
    let after = qmp.execute("stop", json!({}), LIMIT).await;
    assert!(
        matches!(after, Err(QemuError::Disconnected { .. })),
        "{after:?}"
    );
}

#[tokio::test]
async fn a_line_without_end_ends_the_connection() {
    let endless = "x".repeat(2 * LINE_LIMIT);
    let (qmp, mut events, _) = connected(&[&endless], false).await;
    let asked = qmp.execute("stop", json!({}), LIMIT).await;
    assert!(
        matches!(asked, Err(QemuError::Disconnected { .. })),
        "{asked:?}"
    );
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn what_was_sent_before_the_last_handle_went_arrives() {
    let (qmp, mut events, heard) = connected(&[], false).await;
    let other = qmp.clone();
    drop(qmp);
    drop(other.send("stop", json!({ "a": "b" })));
    drop(other);
    // The connection is closed.
    assert_eq!(events.recv().await, None);
    let expected = [
        "{\"execute\":\"qmp_capabilities\",\"arguments\":{},\"id\":1}",
        "{\"execute\":\"stop\",\"arguments\":{\"a\":\"b\"},\"id\":2}",
    ];
    let heard = || heard.lock().unwrap().clone();
    tokio::time::timeout(LIMIT, async {
        while heard().len() < expected.len() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the last command is lost");
    assert_eq!(heard(), expected);
}
