//! The stage of `demo` and `bench`: `serve` processes on loopback with certificates and configurations of their own, and
//! a way to hold what one provider sends to another.

pub(crate) mod cast;
mod proxy;

use crate::{
    admin::{
        local::ask,
        protocol::{Request, Response},
    },
    cli::pki::{create_ca, create_certificate},
    quic::DoorDialer,
};
use anyhow::{Context, bail};
use mimi_actors::ids::ProviderId;
use proxy::Proxy;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// How long a node may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// How often a node is asked whether it is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// One provider's process.
struct Provider {
    domain: ProviderId,
    config: PathBuf,
    door: SocketAddr,
    admin: PathBuf,
    log: PathBuf,
    process: Child,
}

/// Everything that the story is played on.
pub(crate) struct Stage {
    directory: TempDir,
    providers: BTreeMap<char, Provider>,
    /// In front of the provider whose incoming datagrams can be held.
    proxy: Option<Proxy>,
    pub(crate) dialer: DoorDialer,
}

impl Stage {
    /// Makes certificates, writes configurations, starts a process for each of `names`, waits until they are connected.
    /// `held` names a provider, and another whose datagrams to it can be held.
    pub(crate) async fn build(names: &[char], held: Option<(char, char)>) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("mimi-node-").tempdir()?;
        let root = directory.path();
        create_ca(root)?;
        let mut links = BTreeMap::new();
        let mut doors = BTreeMap::new();
        for name in names {
            create_certificate(root, &domain(*name)?, root)?;
            links.insert(*name, free_address()?);
            doors.insert(*name, free_address()?);
        }
        let proxy = match held {
            Some((to, _)) => {
                let target = links.get(&to).context("the held provider is on stage")?;
                Some(Proxy::start(*target).await?)
            }
            None => None,
        };
        let mut providers = BTreeMap::new();
        for (name, door) in &doors {
            let mut config = head(*name, *door, &links)?;
            for (peer, address) in links.iter().filter(|(peer, _)| *peer != name) {
                let through = proxy.as_ref().filter(|_| held == Some((*peer, *name)));
                let address = through.map_or(*address, Proxy::address);
                write!(
                    config,
                    "[[peer]]\ndomain = \"{peer}.example\"\naddresses = [\"{address}\"]\n\
                     trust = {{ ca = \"ca.crt\" }}\n"
                )?;
            }
            let path = root.join(format!("{name}.toml"));
            std::fs::write(&path, config)?;
            let log = root.join(format!("{name}.log"));
            let process = start(&path, &log)?;
            let admin = root.join(format!("{name}-data")).join("admin.sock");
            let provider = Provider {
                domain: domain(*name)?,
                config: path,
                door: *door,
                admin,
                log,
                process,
            };
            providers.insert(*name, provider);
        }
        let dialer = DoorDialer::new(&root.join("ca.crt"))?;
        let mut stage = Self {
            directory,
            providers,
            proxy,
            dialer,
        };
        for name in names {
            stage.ready(*name).await?;
        }
        Ok(stage)
    }

    /// Waits until a provider answers and is connected to both others.
    pub(crate) async fn ready(&mut self, name: char) -> anyhow::Result<()> {
        self.ready_within(name, READY_DEADLINE).await
    }

    async fn ready_within(&mut self, name: char, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let provider = self.provider(name)?;
            if let Some(status) = provider.process.try_wait()? {
                let log = std::fs::read_to_string(&provider.log).unwrap_or_default();
                bail!(
                    "{} ended with {status}: {}",
                    provider.domain,
                    log.lines().last().unwrap_or("")
                );
            }
            if let Ok(Response::Status(status)) = ask(&provider.admin, &Request::Status).await
                && status.peers.iter().all(|peer| peer.connected)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready in time", provider.domain);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    fn provider(&mut self, name: char) -> anyhow::Result<&mut Provider> {
        self.providers
            .get_mut(&name)
            .with_context(|| format!("{name}.example is on stage"))
    }

    /// Asks a provider's operator socket.
    pub(crate) async fn ask(&mut self, name: char, request: &Request) -> anyhow::Result<Response> {
        let response = ask(&self.provider(name)?.admin, request).await?;
        if let Response::Refused { why } = response {
            bail!("{name}.example: {why}");
        }
        Ok(response)
    }

    /// Where a provider's clients come in.
    pub(crate) fn door(&mut self, name: char) -> anyhow::Result<SocketAddr> {
        Ok(self.provider(name)?.door)
    }

    /// Holds what the one provider sends to the held one, or lets it go.
    pub(crate) fn hold(&self, held: bool) {
        if let Some(proxy) = &self.proxy {
            proxy.hold(held);
        }
    }

    /// A provider's process id.
    pub(crate) fn pid(&mut self, name: char) -> anyhow::Result<u32> {
        self.provider(name)?
            .process
            .id()
            .context("the process runs")
    }

    /// Kills a provider's process with SIGKILL.
    pub(crate) async fn kill(&mut self, name: char) -> anyhow::Result<()> {
        let process = &mut self.provider(name)?.process;
        process.start_kill()?;
        process.wait().await?;
        Ok(())
    }

    /// Starts a killed provider again, on the same data.
    pub(crate) async fn restart(&mut self, name: char) -> anyhow::Result<()> {
        self.restart_within(name, READY_DEADLINE).await
    }

    /// As [`Self::restart`], for a node that may need longer.
    pub(crate) async fn restart_within(
        &mut self,
        name: char,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let provider = self.provider(name)?;
        provider.process = start(&provider.config, &provider.log)?;
        self.ready_within(name, patience).await
    }

    /// A provider's configuration file.
    pub(crate) fn config(&mut self, name: char) -> anyhow::Result<&Path> {
        Ok(&self.provider(name)?.config)
    }

    /// A provider's data directory.
    pub(crate) fn data(&mut self, name: char) -> anyhow::Result<PathBuf> {
        let admin = &self.provider(name)?.admin;
        let data = admin.parent().context("the socket is in the directory")?;
        Ok(data.to_owned())
    }

    /// The commands that show what is going on.
    pub(crate) fn how_to_look_around(&self) -> String {
        let me = std::env::current_exe().unwrap_or_else(|_| "mimi-node".into());
        let mut text = "the providers keep running; Ctrl-C ends them. Look around:\n".to_owned();
        for provider in self.providers.values() {
            for command in ["status", "user list"] {
                let (me, config) = (me.display(), provider.config.display());
                // Writing to a String does not fail.
                let _ = writeln!(text, "{me} {command} --config {config}");
            }
        }
        text
    }

    /// Keeps the files of a story that broke off.
    pub(crate) fn keep_files(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    /// Stops the providers in order; each must end cleanly.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        for provider in self.providers.values_mut() {
            let pid = provider
                .process
                .id()
                .and_then(|pid| i32::try_from(pid).ok());
            let pid = pid
                .and_then(rustix::process::Pid::from_raw)
                .context("the process runs")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        for provider in self.providers.values_mut() {
            let ended = tokio::time::timeout(READY_DEADLINE, provider.process.wait()).await;
            let status =
                ended.with_context(|| format!("{} did not end in time", provider.domain))??;
            if !status.success() {
                bail!("{} ended with {status}", provider.domain);
            }
        }
        Ok(())
    }
}

fn domain(name: char) -> anyhow::Result<ProviderId> {
    Ok(format!("{name}.example").parse()?)
}

/// A UDP port that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn head(
    name: char,
    door: SocketAddr,
    links: &BTreeMap<char, SocketAddr>,
) -> anyhow::Result<String> {
    let link = links.get(&name).context("every provider has an address")?;
    Ok(format!(
        "[node]\nprovider = \"{name}.example\"\ndata_dir = \"{name}-data\"\n\
         [tls]\ncertificate = \"{name}.example.crt\"\nkey = \"{name}.example.key\"\n\
         [link]\nlisten = \"{link}\"\n[door]\nlisten = \"{door}\"\n"
    ))
}

/// Starts a node; what it says goes to a file.
fn start(config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?;
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("start a node")
}
