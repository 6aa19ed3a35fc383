# Source: docs/OPERATING.md, section by section: what an operator does, and what is said back.
@operate
Feature: A command says only what was verified when it said so

  Scenario: a command to a node that does not run says so, and what to do
    Given the files of a.example
    When the operator of a.example runs "user list"
    Then it ends with 1
    And it says "mimi-node: no node runs here: there is no socket …/a.example-data/admin.sock; start it with `mimi-node serve`, or name the configuration of one that runs"
    When a.example is started
    And the process of a.example is killed
    And the operator of a.example runs "user list --json"
    Then it ends with 1
    And it says in JSON: code "not_running", exit 1, message "no node runs here: nobody listens on …/admin.sock, which an ended node left; start it with `mimi-node serve`"

  Scenario: a node that ends before it answers is told apart from one that is late
    Given the files of a.example
    And a.example runs
    When the operator of a.example runs "user add alice" until the node is frozen and killed
    Then it ends with 1
    And it has said that it waits
    And it says "mimi-node: the node ended before it answered, so it may have been done: start it again, or ask another one of its provider, then look, or repeat the command"

  Scenario: without a leader nothing is done, and that is said after it was tried for ten seconds
    Given 3 nodes of a.example, alone
    When the processes of a2 and a3 are killed
    And the operator of a1 runs "user add alice"
    Then it ends with 1
    And it has said that it waits
    And it says "mimi-node: … (asked for … s); …"

  Scenario: users are added while the node that leads them is killed
    Given 3 nodes of a.example, alone
    When 12 users are added at a1 while the leader of each is killed
    Then a1 still answers

  Scenario: nothing that waits is not sent again
    Given the providers a.example and b.example
    When the operator of a.example runs "peer redrive --peer b.example --room mimi://a.example/r/none"
    Then it ends with 1
    And it says "mimi-node: nothing of mimi://a.example/r/none waits for b.example; `mimi-node peer parked --peer b.example` lists what does"
    When the operator of a.example runs "peer redrive --peer b.example --json"
    Then it ends with 1
    And it says in JSON: code "nothing_waits", exit 1, message "b.example refused nothing that waits; `mimi-node peer parked --peer b.example` lists what waits for other reasons"
    When the operator of a.example runs "peer redrive --peer c.example --room mimi://a.example/r/none"
    Then it ends with 1
    And it says "mimi-node: c.example is not a peer of this node; see `mimi-node status`"

  Scenario: what is owed to a provider that stays away is counted, and given up when the count is said
    Given the providers a.example and b.example
    And alice at a.example
    And bob at b.example
    And the room den of a.example with alice and bob
    When b.example is killed
    And alice sends "one"
    And alice sends "two"
    And the operator of a.example runs "peer forget --peer b.example"
    Then it ends with 0
    And it prints "… items are owed to b.example; nothing was done. To give them up for good, so that its members must join anew, add --items …"
    When the operator of a.example runs "peer forget --peer b.example --items 1"
    Then it ends with 1
    And it says "mimi-node: … items are owed to b.example by now, more than 1: look again, then repeat the command"
    When the operator of a.example runs "peer forget --peer b.example --items 1000"
    Then it ends with 0
    And it prints "… items that were owed to b.example are given up: remove its members from their rooms, or invite them anew"
    When the operator of a.example runs "peer forget --peer b.example --items 1000 --json"
    Then it ends with 1
    And it says in JSON: code "nothing_waits", exit 1, message "nothing is owed to b.example"
    When the operator of a.example runs "peer forget --peer b.example"
    Then it ends with 0
    And it prints "nothing is owed to b.example"
    When alice sends "three"
    Then every message of alice has its verdict

  Scenario: what was so before is not said to be done
    Given the files of a.example
    And a.example runs
    When the operator of a.example runs "user consent alice --requester mimi://b.example/u/bob --grant"
    Then it ends with 1
    And it says "mimi-node: mimi://a.example/u/alice does not exist; see `mimi-node user list`"
    When the operator of a.example runs "user add alice"
    Then it ends with 0
    And it prints "mimi://a.example/u/alice: enrolment code … (one device, … h)"
    When the operator of a.example runs "user consent alice --requester mimi://b.example/u/bob --forget"
    Then it ends with 0
    And it prints "it was so before: nothing was changed"
    When the operator of a.example runs "user consent alice --requester mimi://b.example/u/bob --grant"
    Then it prints "done"
    When the operator of a.example runs "user consent alice --requester mimi://b.example/u/bob --grant"
    Then it prints "it was so before: nothing was changed"
    When the operator of a.example runs "device revoke mimi://a.example/d/alice/phone"
    Then it ends with 1
    And it says "mimi-node: mimi://a.example/d/alice/phone does not exist, or was revoked before; see `mimi-node user list`"
    When the operator of a.example runs "device revoke mimi://b.example/d/bob/phone"
    Then it ends with 1
    And it says "mimi-node: mimi://b.example/d/bob/phone is not a device of this provider"
    When the operator of a.example runs "user delete alice"
    Then it prints "done"
    When the operator of a.example runs "user delete alice"
    Then it ends with 0
    And it prints "it was so before: nothing was changed"
    When the operator of a.example runs "user add alice"
    Then it ends with 1
    And it says "mimi-node: mimi://a.example/u/alice was deleted, for good; another name can be given to `mimi-node user add`"

  Scenario: whoever stops reading ends a command quietly, and a full disk does not
    Given the files of a.example
    And a.example runs
    When the operator of a.example runs "status", which nobody reads
    Then it ends with 141
    And it says nothing
    When the operator of a.example runs "config check --json", which nobody reads
    Then it ends with 141
    And it says nothing
    When the operator of a.example runs "user list --json" onto a full disk
    Then it ends with 1
    And it says in JSON: code "failed", exit 1, message "standard output cannot be written: No space left on device (os error 28)"

  Scenario: a long command whose reader goes ends with what it started
    When somebody runs "demo", of which one line is read
    Then it ends with 141

  Scenario: signals that mean nothing to a node do not end it, and those that do end it in order
    Given the files of a.example
    And a.example runs
    When a.example gets a SIGHUP
    And a.example gets a SIGUSR1
    And a.example gets a SIGUSR2
    And a.example gets a SIGPIPE
    Then the log of a.example says "a signal is ignored: the configuration is read at the start; restart the node for another one"
    And a.example still answers
    And "a signal is ignored: the configuration is read at the start; restart the node for another one" is said 3 times in the log of a.example
    When a.example gets a SIGQUIT
    Then the node a.example ends with 0
    And the log of a.example says "stopped"

  Scenario: the README's own steps work as they are written
    When the commands under "## Run a node" in the README are run, one after the other
    Then it ends with 0

  Scenario: what a start refuses is refused by the check, with the same words
    Given the files of a.example and b.example
    And the configuration of a.example says 'ca = "gone.crt"' for 'ca = "ca.crt"'
    When the operator of a.example runs "config check"
    Then it ends with 2
    And it says "mimi-node: `peer b.example`: …/gone.crt: the CA's certificate is not usable: …/gone.crt: the certificate does not read: No such file or directory (os error 2)"
    When the operator of a.example runs "serve"
    Then it ends with 2
    And it says "mimi-node: `peer b.example`: …/gone.crt: the CA's certificate is not usable: …/gone.crt: the certificate does not read: No such file or directory (os error 2)"

  Scenario: a certificate of somebody else is refused by the check
    Given the files of a.example and b.example
    And the configuration of a.example says 'b.example.crt' for 'a.example.crt'
    When the operator of a.example runs "config check"
    Then it ends with 2
    And it says "mimi-node: `tls`: …/a.example.key: not the private key of …/b.example.crt: …"
    Given the configuration of a.example says 'b.example.key' for 'a.example.key'
    When the operator of a.example runs "config check --json"
    Then it ends with 2
    And it says in JSON: code "config", exit 2, message "`tls.certificate`: …/b.example.crt names b.example, but node.provider is a.example: they must be the same"

  Scenario: a key that others can read is refused, and a data directory that they can read is closed
    Given the files of a.example
    And a.example runs
    Then everything in a.example-data is its owner's alone
    When the process of a.example is killed
    And the file a.example-data gets the mode 755
    And the file a.example-data/node.json gets the mode 644
    And a.example is started
    Then the log of a.example says "the data directory was open to others; it is its owner's alone from now on"
    And everything in a.example-data is its owner's alone
    When the process of a.example is killed
    And the file a.example-data/hub.key gets the mode 644
    And the operator of a.example runs "serve"
    Then it ends with 2
    And it says "mimi-node: `node.hub_key`: …/hub.key: the private key is open to others (mode 644); chmod 600 it"

  Scenario: a socket whose path is too long is refused before anything is served
    Given the files of a.example
    And the data directory of a.example is so deep that its socket has 108 bytes
    When the operator of a.example runs "config check"
    Then it ends with 2
    And it says "mimi-node: `node.admin_socket`: …/admin.sock has 108 bytes, and the path of a socket has at most 107: set node.admin_socket to a shorter one, in a directory that only the node's account can write to"
    When the operator of a.example runs "serve"
    Then it ends with 2

  Scenario: a socket whose path is as long as it may be is reached
    Given the files of a.example
    And the data directory of a.example is so deep that its socket has 107 bytes
    And a.example runs
    When the operator of a.example runs "user list"
    Then it ends with 0

  Scenario: a file where the socket should be is nobody's to remove
    Given the files of a.example
    And the configuration of a.example says 'admin_socket = "letter"\n[tls]' for '[tls]'
    And a file letter that says "dear"
    When the operator of a.example runs "serve"
    Then it ends with 2
    And it says "mimi-node: `node.admin_socket`: …/letter is there already and is not a socket; it is left as it is: set node.admin_socket to another path"
    And the file letter still says "dear"

  Scenario: a data directory that is none, or another node's, is refused
    Given the files of a.example
    And a.example runs
    When the process of a.example is killed
    Given the configuration of a.example says 'id = 2\n[tls]' for '[tls]'
    When the operator of a.example runs "config check"
    Then it ends with 2
    And it says "mimi-node: `node.data_dir`: …/a.example-data belongs to node 1 of a.example (16 shards), this is node 2 of a.example: set node.data_dir to this node's own directory"
    Given the configuration of a.example says 'letter' for 'a.example-data'
    And a file letter that says "dear"
    When the operator of a.example runs "config check"
    Then it ends with 2
    And it says "mimi-node: `node.data_dir`: …/letter is not a directory; name one that is this node's alone"

  Scenario: a port that is taken is named with its key
    Given the files of a.example
    And somebody else listens at the link of a.example
    When the operator of a.example runs "serve"
    Then it ends with 1
    And it says "mimi-node: `link.listen`: choose another address, or end who has it: listen on UDP 127.0.0.1:…: the port is in use by features… (process …)"

  Scenario: the operator's socket survives that there are no descriptors
    Given the files of a.example
    And a.example runs
    When a.example may open no descriptor more
    And 3 connections to the socket of a.example say nothing
    Then the log of a.example says "the operator's socket takes no connection now; it is tried again until it does"
    When a.example may open descriptors again
    Then the log of a.example says "the operator's socket takes connections again"
    And a.example still answers
    And "the operator's socket takes no connection now; it is tried again until it does" is said 1 time in the log of a.example

  Scenario: a node that may open no descriptor takes messages, and is sealed when it may again
    Given the files of a.example
    And a.example seals often
    And a.example runs
    When alice of a.example has a room and talks in it
    And a.example may open no descriptor more
    And alice talks on until the log of a.example says that nothing can be sealed
    And a.example may open descriptors again
    Then alice talks on, and a.example seals again

  @disks
  Scenario: a command to a node whose disk is full says so, and what to do
    Given the files of a.example, on a disk of 96 MiB
    And a.example runs
    When the disk of a.example is full
    And users are added at a.example until it refuses
    Then it ends with 1
    And it says "mimi-node: the disk or the log is full, so nothing was done: make room (`mimi-node status` shows how full the log is), then repeat the command"
    And a.example is not ready: "storage full: …; until then nothing new is taken here and other nodes lead, reading goes on"
    When the operator of a.example runs "status"
    Then it ends with 3
    And it prints "NOT WELL: …storage full…"
    When the disk of a.example has room again
    Then a.example is ready
    When the operator of a.example runs "user add zoe"
    Then it ends with 0

  Scenario: connections that say nothing cost the operator some seconds, and no more
    Given the files of a.example
    And a.example runs
    When 40 connections to the socket of a.example say nothing
    And the operator of a.example runs "user list"
    Then it ends with 0

  Scenario: a peer that does not answer: the status says since when, where and why, and the log says so once
    Given the files of a.example and b.example
    And a.example runs
    Then the log of a.example says because of "the other side does not answer": "the peer cannot be reached; it is tried until it can be"
    When the operator of a.example runs "status"
    Then it ends with 3
    And it prints "peer b.example: not connected, 0 items unacknowledged"
    And it prints "  127.0.0.1:…: … attempts failed since … s ago, the last one: the other side does not answer"
    And it prints "NOT WELL: b.example is not connected: what is for it waits; its row says why"
    And it says "mimi-node: one thing is not well; the status says which"
    When the operator of a.example runs "status --json"
    Then it ends with 3
    And it says in JSON: code "unwell", exit 3, message "one thing is not well; the status says which"
    And "the peer cannot be reached; it is tried until it can be" is said 1 time in the log of a.example
    When b.example is started
    Then the log of a.example says "the peer is reached again"
    And the operator of a.example sees that all is well

  Scenario: a peer with a certificate of another CA: both sides say who refuses whom, and why
    Given the files of a.example and b.example
    And b.example has a certificate of another CA
    And a.example runs
    And b.example runs
    Then the log of a.example says because of "refused on this side: the certificate names b.example: it is not of the CA that is configured": "a connection of another provider did not come about"
    And the log of a.example says because of "refused on this side: the certificate names b.example: it is not of the CA that is configured": "the peer cannot be reached; it is tried until it can be"
    And the log of b.example says because of "refused by the other side (TLS alert 40): the certificate names b.example: it is not of the CA that is configured": "the peer cannot be reached; it is tried until it can be"
    And the lines "a connection of another provider did not come about" in the log of a.example name an address

  Scenario: a certificate that ends soon is spoken of by the check, the start and the status
    Given the files of a.example
    And the certificate of a.example ends in 5 days
    When the operator of a.example runs "config check"
    Then it ends with 3
    And it says "mimi-node: `tls.certificate`: …/a.example.crt ends in … days; then connections that are up go on, and no client and no peer makes a new one: put another one there and restart the node, which does not start with one that has ended"
    When a.example is started
    Then the log of a.example says "`tls.certificate`: …/a.example.crt ends in … days; then connections that are up go on, and no client and no peer makes a new one: put another one there and restart the node, which does not start with one that has ended"
    When the operator of a.example runs "status"
    Then it ends with 3
    And it prints "certificate tls.certificate: … days left"
    And it prints "NOT WELL: `tls.certificate`: …/a.example.crt ends in … days; …"

  Scenario: a node whose certificate ends while it runs says that it is not ready
    Given the files of a.example
    And all clocks can be set
    And a.example answers its operator over HTTP
    And the certificate of a.example ends in 5 days
    And a.example runs
    Then a.example is ready
    When the clock of a.example is set 6 days ahead
    Then a.example is not ready: "a certificate that this node shows has ended: nobody makes a new connection to it; `mimi-node status` says which"
    When the operator of a.example runs "status"
    Then it ends with 3
    And it prints "NOT WELL: `tls.certificate`: …/a.example.crt ended … days ago…"

  Scenario: a certificate that has ended is refused by the check and the start
    Given the files of a.example
    And the certificate of a.example has ended
    When the operator of a.example runs "config check"
    Then it ends with 2
    And it says "mimi-node: `tls`: …/a.example.crt: the certificate is valid from … to …, not today: put another one there, or set the clock right"
    When the operator of a.example runs "serve"
    Then it ends with 2

  Scenario: what cannot be shown or measured is refused at once, with what can be
    When somebody runs "demo --nodes 2"
    Then it ends with 2
    And it says "mimi-node: invalid value '2' for '--nodes <NODES>': of 2 nodes no majority is left when one is killed; 1, or 3 to 5 …"
    When somebody runs "bench fanout --seconds 0"
    Then it ends with 2
    And it says "mimi-node: invalid value '0' for '--seconds <SECONDS>': nothing can be measured with none: at least 1 …"
    When somebody runs "bench latency --rate 0 --json"
    Then it ends with 2
    And it says in JSON: code "usage", exit 2, message "invalid value '0' for '--rate <RATE>': a number above 0 …"
    When somebody runs "bench claim --nodes 9"
    Then it ends with 2

  Scenario: an unknown command, key or file is one line, with the same words in JSON
    When somebody runs "user ad alice"
    Then it ends with 2
    And it says "mimi-node: unrecognized subcommand 'ad' tip: a similar subcommand exists: 'add'; `--help` shows what there is"
    When somebody runs "peer"
    Then it ends with 2
    And it says "mimi-node: a command is missing; `--help` shows which there are"
    When somebody runs "user list --config nowhere.toml --json"
    Then it ends with 2
    And it says in JSON: code "config", exit 2, message "nowhere.toml: the configuration does not read; `mimi-node config example` prints one: No such file or directory (os error 2)"
    Given the files of a.example
    And the configuration of a.example says 'listn =' for 'listen ='
    When the operator of a.example runs "status --json"
    Then it ends with 2
    And it says in JSON: code "config", exit 2, message "…`link.listn`…`link.listen`…"

  Scenario: no line of a log names a directory of the machine that built the program
    Given the files of a.example
    And the configuration of a.example says '[log]\nfilter = "info,fjall=debug,raft_engine=debug"\n[tls]' for '[tls]'
    And a.example runs
    Then no line of the log of a.example names a source file

  Scenario: a filter of one word leaves the libraries quiet
    Given the files of a.example
    And the configuration of a.example says '[log]\nfilter = "debug"\n[tls]' for '[tls]'
    And a.example runs
    Then no line of the log of a.example is of openraft, raft_engine or fjall
