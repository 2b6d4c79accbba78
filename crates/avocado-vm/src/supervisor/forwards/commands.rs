//! Forwards that commands ask for: they last as long as the command does.

use std::sync::Arc;

use serde_json::Value;

use super::{ForwardUser, Forwards, MOST_FORWARDS, describe, listen};
use crate::supervisor::docker_tunnel::GuestPort;
use crate::supervisor::protocol::{SupervisorFailure, WantedForward};

/// A service of the guest may listen on either of its loopback addresses: this name has both.
const GUEST: &str = "localhost";

/// What a command asked for is forwarded until this is dropped.
pub(crate) struct ForwardGuard {
    forwards: Arc<Forwards>,
    number: u64,
}

impl Drop for ForwardGuard {
    fn drop(&mut self) {
        let (forwards, number) = (self.forwards.clone(), self.number);
        // Without a runtime the supervisor has ended, and everything with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { forwards.end_of_command(number).await });
        }
    }
}

impl Forwards {
    /// Forwards everything that a command asks for, or nothing. Answers with what is forwarded, as
    /// JSON.
    pub(crate) async fn open_for_command(
        this: &Arc<Forwards>,
        wanted: Vec<WantedForward>,
        process: Option<u32>,
    ) -> Result<(ForwardGuard, Value), SupervisorFailure> {
        let mut state = this.state.lock().await;
        while state.tasks.try_join_next().is_some() {}
        let there: usize = state.commands.values().map(Vec::len).sum();
        if there + wanted.len() > MOST_FORWARDS {
            let text = format!("commands may have {MOST_FORWARDS} ports forwarded, not more");
            return Err(SupervisorFailure::new(text, None));
        }
        let user = ForwardUser::Command(process);
        let mut listeners = Vec::new();
        for one in wanted {
            let to = GuestPort::new(GUEST, one.guest_port);
            let listener = match one.address {
                Some(address) => listen::listen_on(address, one.port),
                None => listen::listen_on_loopback(one.port),
            };
            match listener {
                Ok(listener) => listeners.push((to, listener)),
                Err(why) => {
                    let text = format!("port {} of the guest is not forwarded: {why}", to.port);
                    let hint =
                        "name another port of this host before that of the guest, as in 8081:80";
                    return Err(SupervisorFailure::new(text, Some(hint)));
                }
            }
        }
        let mut opened = Vec::new();
        for (to, listener) in listeners {
            let what = describe(&to, &user);
            if let Some(why) = listener.problem() {
                this.log.line(&format!("{what} {why}"));
            }
            let open = this.open(listener, to, user.clone(), &mut state.tasks);
            let at = open.addresses.join(" and ");
            this.log.line(&format!("{what} is forwarded: {at}"));
            opened.push(open);
        }
        let shown: Vec<_> = opened.iter().map(super::OpenForward::shown).collect();
        let shown = serde_json::to_value(shown).map_err(|error| {
            SupervisorFailure::new(format!("what is forwarded has no JSON form: {error}"), None)
        })?;
        let number = state.next_command;
        state.next_command += 1;
        state.commands.insert(number, opened);
        this.show(&state);
        let forwards = this.clone();
        Ok((ForwardGuard { forwards, number }, shown))
    }

    async fn end_of_command(&self, number: u64) {
        let mut state = self.state.lock().await;
        for open in state.commands.remove(&number).unwrap_or_default() {
            self.close(open, &mut state.tasks).await;
        }
        self.show(&state);
    }
}
