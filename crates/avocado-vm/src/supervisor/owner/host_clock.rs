//! To be told when the host's clock is set, or the host has slept.

#[cfg(target_os = "linux")]
pub(super) use linux::ClockChanges;
#[cfg(not(target_os = "linux"))]
pub(super) use polled::ClockChanges;

/// The kernel tells: a timer of the host's clock is cancelled when that changes in another way than
/// by running. Waiting for that costs nothing.
#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsFd;

    use rustix::io::Errno;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    pub(in super::super) struct ClockChanges {
        timer: Result<Timer, std::io::Error>,
    }

    /// A timer can be waited for as the end of a pipe can.
    type Timer = tokio::net::unix::pipe::Receiver;

    impl ClockChanges {
        pub(in super::super) fn new() -> Self {
            ClockChanges { timer: timer() }
        }

        /// Why nothing will be told, where that is so.
        pub(in super::super) fn problem(&self) -> Option<&std::io::Error> {
            self.timer.as_ref().err()
        }

        /// Returns when the clock has changed. Where the kernel does not tell, it never does.
        pub(in super::super) async fn next(&mut self) {
            if let Ok(timer) = &self.timer
                && let Err(error) = cancelled(timer).await
            {
                self.timer = Err(error);
            }
            if self.timer.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Returns when the timer was cancelled, and is armed again.
    async fn cancelled(timer: &Timer) -> Result<(), std::io::Error> {
        loop {
            timer.readable().await?;
            match timer.try_read(&mut [0; 8]) {
                Err(error) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                    return arm(timer);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                // The end of all times.
                Ok(_) => arm(timer)?,
            }
        }
    }

    fn timer() -> Result<Timer, std::io::Error> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        arm(&timer)?;
        Timer::from_owned_fd_unchecked(timer)
    }

    /// It is not to expire, only to be cancelled.
    fn arm(timer: &impl AsFd) -> Result<(), std::io::Error> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let never = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(timer, flags, &never)?;
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn a_clock_that_runs_tells_nothing() {
            let mut changes = ClockChanges::new();
            assert!(changes.problem().is_none(), "{:?}", changes.problem());
            tokio::select! {
                biased;
                () = changes.next() => panic!("the clock was not set"),
                () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
            }
        }
    }
}

/// Other systems have nothing of the kind: it is time to look every two seconds.
#[cfg(not(target_os = "linux"))]
mod polled {
    use std::time::Duration;

    const PERIOD: Duration = Duration::from_secs(2);

    pub(in super::super) struct ClockChanges;

    impl ClockChanges {
        pub(in super::super) fn new() -> Self {
            ClockChanges
        }

        pub(in super::super) fn problem(&self) -> Option<&std::io::Error> {
            None
        }

        pub(in super::super) async fn next(&mut self) {
            tokio::time::sleep(PERIOD).await;
        }
    }
}
