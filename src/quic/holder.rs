//! Who has a port that this node wants: looked up where the system shows it (Linux, `/proc`), for a line that helps.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Protocol {
    /// The tables of its sockets, of both families of addresses.
    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Udp => ["/proc/net/udp", "/proc/net/udp6"],
            Self::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        }
    }
}

/// The process that listens at an address, as ` by NAME (process 12)`; nothing where that cannot be seen.
pub fn holder(protocol: Protocol, address: SocketAddr) -> String {
    let tables = protocol.tables().into_iter();
    let mut tables = tables.filter_map(|table| fs::read_to_string(table).ok());
    let inode = tables.find_map(|table| inode_of(&table, address));
    let process = inode.and_then(|inode| process_of(&inode));
    process.map_or_else(String::new, |(pid, name)| {
        format!(" by {name} (process {pid})")
    })
}

/// The inode of the socket in a table that stands in the way of an address.
fn inode_of(table: &str, address: SocketAddr) -> Option<String> {
    const LOCAL: usize = 1;
    const REMOTE: usize = 2;
    const INODE: usize = 9;
    let mut rows = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(LOCAL)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        // Only who listens: the other end has no port.
        let listens = fields.get(REMOTE)?.ends_with(":0000");
        let same = listens && port == address.port() && in_the_way(read_ip(ip)?, address.ip());
        same.then(|| fields.get(INODE).map(ToString::to_string))?
    });
    rows.next()
}

/// Whether who listens at the one cannot be joined at the other.
fn in_the_way(listening: IpAddr, wanted: IpAddr) -> bool {
    listening.is_unspecified()
        || wanted.is_unspecified()
        || listening.to_canonical() == wanted.to_canonical()
}

/// An address as the system's tables have it: words of four bytes, each in the order of the machine.
fn read_ip(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..text.len())
        .step_by(8)
        .map(|at| {
            let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
            Some(word.to_ne_bytes())
        })
        .collect();
    match *words? {
        [word] => Some(Ipv4Addr::from(word).into()),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (place, byte) in bytes.iter_mut().zip([a, b, c, d].concat()) {
                *place = byte;
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The process that has a socket open, and its name.
fn process_of(inode: &str) -> Option<(u32, String)> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let mut open = open.flatten();
        open.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*link))
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, name.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn this_process_is_found_at_its_own_ports() {
        let me = format!("(process {})", std::process::id());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let said = holder(Protocol::Udp, udp.local_addr().unwrap());
        assert!(said.starts_with(" by ") && said.ends_with(&me), "{said:?}");
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let said = holder(Protocol::Tcp, tcp.local_addr().unwrap());
        assert!(said.ends_with(&me), "{said:?}");
        let everywhere = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let said = holder(Protocol::Udp, (Ipv4Addr::LOCALHOST, port).into());
        assert!(said.ends_with(&me), "{said:?}");
    }

    #[test]
    fn where_nothing_can_be_seen_nothing_is_said() {
        assert_eq!(
            inode_of("sl local\n  0: nonsense\n", "127.0.0.1:1".parse().unwrap()),
            None
        );
        assert_eq!(process_of("no such inode"), None);
    }
}
