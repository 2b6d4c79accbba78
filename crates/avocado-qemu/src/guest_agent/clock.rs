//! The guest's clock, set by the host's.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use super::protocol::{self, AgentConnection};
use crate::error::QemuError;

/// How wrong the clock may be without another try, in milliseconds.
const TOLERANCE_MS: i64 = 50;
/// How often it is set at most: a busy host is not equally slow each time.
const MAX_TRIES: u32 = 4;

/// Sets the guest's clock to the host's; see [`super::GuestAgent::set_clock`].
pub(super) async fn set_to_host<S: AsyncRead + AsyncWrite>(
    connection: &mut AgentConnection<S>,
    socket: &Path,
) -> Result<i64, QemuError> {
    let mut error = 0;
    for _ in 0..MAX_TRIES {
        // A guest that was slow to take the time will be so again.
        let now = nanoseconds(SystemTime::now()) - error * 1_000_000;
        let arguments = json!({ "time": now });
        match connection.call("guest-set-time", arguments).await {
            // Its hardware clock could not be set as well; or the other one: that will show.
            Ok(_) | Err(QemuError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        error = measure_error(connection, socket).await?;
        if error.abs() <= TOLERANCE_MS {
            break;
        }
    }
    Ok(error)
}

async fn measure_error<S: AsyncRead + AsyncWrite>(
    connection: &mut AgentConnection<S>,
    socket: &Path,
) -> Result<i64, QemuError> {
    // The way of the first question may include a processor that has to be woken.
    connection.sync(protocol::fresh_id()).await?;
    let before = SystemTime::now();
    let answer = connection.call("guest-get-time", json!({})).await?;
    let way = before.elapsed().unwrap_or_default();
    let Some(guest) = answer.as_i64() else {
        return Err(protocol::unexpected_answer(
            socket,
            "guest-get-time",
            &answer,
        ));
    };
    Ok((guest - nanoseconds(before + way / 2)) / 1_000_000)
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex, split};

    use super::*;

    /// A guest whose clock is set `lag` late, and that refuses for its hardware clock.
    async fn clock(lag: Duration, tries: usize) -> i64 {
        let (near, far) = duplex(1 << 16);
        let guest = tokio::spawn(async move {
            let (reader, mut writer) = split(far);
            let mut lines = BufReader::new(reader).split(b'\n');
            let mut offset = 0;
            let mut sets = 0;
            while let Ok(Some(line)) = lines.next_segment().await {
                let start = line.iter().position(|b| *b == b'{').unwrap();
                let line: Value = serde_json::from_slice(&line[start..]).unwrap();
                let answer = match line["execute"].as_str().unwrap() {
                    "guest-set-time" => {
                        sets += 1;
                        let time = line["arguments"]["time"].as_i64().unwrap();
                        let lag = i64::try_from(lag.as_nanos()).unwrap();
                        offset = time - lag - nanoseconds(SystemTime::now());
                        json!({ "error": { "class": "GenericError", "desc": "hwclock" } })
                    }
                    "guest-get-time" => {
                        json!({ "return": nanoseconds(SystemTime::now()) + offset })
                    }
                    _ => json!({ "return": line["arguments"]["id"] }),
                };
                let mut bytes = vec![0xff];
                if line["execute"] != "guest-sync-delimited" {
                    bytes.clear();
                }
                bytes.extend(format!("{answer}\n").into_bytes());
                writer.write_all(&bytes).await.unwrap();
            }
            sets
        });
        let mut connection = AgentConnection::new(near, Path::new("qga.sock"));
        let error = set_to_host(&mut connection, Path::new("qga.sock"))
            .await
            .unwrap();
        drop(connection);
        assert_eq!(guest.await.unwrap(), tries);
        error
    }

    #[tokio::test]
    async fn what_is_late_is_corrected_once() {
        assert!(clock(Duration::ZERO, 1).await.abs() <= TOLERANCE_MS);
        assert!(clock(Duration::from_secs(3), 2).await.abs() <= TOLERANCE_MS);
    }
}
