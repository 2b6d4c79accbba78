//! Reading which ports the containers publish: the list of all, and each container once.
//!
//! Podman joins neighbouring ports (`-p 9000:9000 -p 9001:9001`) into one entry, of which its list
//! has the first port alone. What it tells of a single container has all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::timeout;

use super::docker_get::{DockerAnswer, DockerFailure};
use super::published::{ContainerPorts, ListedContainer, ListedPort, PublishedPorts};
use super::{Forwards, MOST_FORWARDS};

/// How long docker may take to answer: the guest may be slow, and fall asleep meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// So many containers are asked for; the others are taken as they are listed.
const MOST_ASKED: usize = MOST_FORWARDS;

/// What was learnt of the containers that run. One is asked for again only when the list says
/// something else of it.
#[derive(Default)]
pub(super) struct KnownContainers(BTreeMap<String, KnownContainer>);

struct KnownContainer {
    listed: Vec<ListedPort>,
    publishes: ContainerPorts,
}

impl KnownContainers {
    /// What is published now.
    pub(super) async fn read(
        &mut self,
        forwards: &Forwards,
    ) -> Result<PublishedPorts, DockerFailure> {
        let list = get(forwards, "/containers/json").await?;
        let list = ListedContainer::parse_all(&list).map_err(|error| {
            DockerFailure::Unusable(format!("its list is not understood: {error}"))
        })?;
        let mut before = std::mem::take(&mut self.0);
        let mut all = Vec::new();
        let mut problems = BTreeSet::new();
        let mut failed = 0;
        for container in list.iter().filter(|one| !one.ports().is_empty()) {
            let name = container.name();
            let known = before.remove(&container.id);
            let known = known.filter(|known| known.listed == container.ports());
            let known = match known {
                Some(known) => Some(Ok(known.publishes)),
                None if self.0.len() + failed < MOST_ASKED => Some(ask(forwards, container).await),
                None => None,
            };
            failed += usize::from(matches!(known, Some(Err(_))));
            let publishes = match known {
                Some(Ok(publishes)) => {
                    let known = KnownContainer {
                        listed: container.ports().to_vec(),
                        publishes: publishes.clone(),
                    };
                    self.0.insert(container.id.clone(), known);
                    publishes
                }
                // It has just ended, which an event tells.
                Some(Err(DockerFailure::NotFound)) => continue,
                Some(Err(DockerFailure::Silent(why))) => return Err(DockerFailure::Silent(why)),
                Some(Err(DockerFailure::Unusable(why))) => {
                    problems.insert(format!(
                        "perhaps not all ports of container {name} are forwarded: docker in the \
                         guest does not tell them: {why}"
                    ));
                    container.publishes()
                }
                None => container.publishes(),
            };
            all.push((name, publishes));
        }
        let mut published = PublishedPorts::of_all(all);
        published.problems = problems;
        Ok(published)
    }
}

async fn ask(
    forwards: &Forwards,
    container: &ListedContainer,
) -> Result<ContainerPorts, DockerFailure> {
    let id = &container.id;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(DockerFailure::Unusable(format!("its id is {id:?}")));
    }
    let told = get(forwards, &format!("/containers/{id}/json")).await?;
    ContainerPorts::parse(&told)
        .map_err(|error| DockerFailure::Unusable(format!("its answer is not understood: {error}")))
}

async fn get(forwards: &Forwards, path: &str) -> Result<Vec<u8>, DockerFailure> {
    let answer = async { begin(forwards, path).await?.body().await };
    let answer = timeout(ANSWER_LIMIT, answer).await;
    answer.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", ANSWER_LIMIT.as_secs());
        Err(DockerFailure::Unusable(text))
    })
}

/// Asks docker, and reads nothing yet.
pub(super) async fn begin(forwards: &Forwards, path: &str) -> Result<DockerAnswer, DockerFailure> {
    let shared = &forwards.shared;
    let connected = forwards.tunnel.connect(shared).await;
    let stream = connected.map_err(|failure| DockerFailure::Silent(failure.message))?;
    Ok(DockerAnswer::ask(stream, path, shared).await?)
}
