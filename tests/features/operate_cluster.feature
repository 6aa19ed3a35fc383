# Source: transport requirements, section 3; docs/OPERATING.md, "Membership": what an operator does to a cluster, rightly and wrongly.
@operate @several-nodes
Feature: A change of the cluster is made only after the other node was spoken to, and is done when it was looked at

  Scenario: a healthy voter is not replaced, nobody is replaced by nobody, and nobody is taken in who is not there
    Given 3 nodes of a.example, alone
    When the operator of a1 runs "cluster replace --node 3 --with 7 --address 127.0.0.1:9"
    Then it ends with 1
    And it says "mimi-node: node 3 answers and votes in shard 0: a node that is well is replaced only with --force; to take one more in and let this one go later, `cluster join`, then `cluster leave`"
    When the operator of a1 runs "cluster replace --node 3 --with 7 --address 127.0.0.1:9 --force"
    Then it ends with 1
    And it says "mimi-node: node 7 does not answer at 127.0.0.1:9 (…): start it with cluster.join = true, see that 127.0.0.1:9 is its cluster.listen as the others reach it, and ask again; nothing was changed"
    When the operator of a1 runs "cluster join --node 4 --address 127.0.0.1:9 --json"
    Then it ends with 1
    And it says in JSON: code "failed", exit 1, message "node 4 does not answer at 127.0.0.1:9 (…): start it …; nothing was changed"
    When the operator of a1 runs "cluster join --node 4 --address nowhere"
    Then it ends with 2
    And a1 sees that 1, 2 and 3 vote and that nobody else belongs to the cluster

  Scenario: a node joins after a mistyped address, joins once, and is not joined elsewhere
    Given 3 nodes of a.example, alone
    And node 4 of a.example waits to be taken in
    When the operator of a1 runs "cluster join --node 4 --address <a3>"
    Then it ends with 1
    And it says "mimi-node: node 4 does not answer at …"
    When the operator of a2 runs "cluster join --node 4 --address <a4>"
    Then it ends with 0
    And it says "... node 4 joins at …: done, 16 of 16 shards were changed"
    And a1 sees that 1, 2 and 3 vote and that 4 belongs to the cluster
    When the operator of a3 runs "cluster join --node 4 --address <a4>"
    Then it ends with 0
    And it says "... node 4 joins at …: it was so already, nothing was changed"
    When the operator of a1 runs "cluster join --node 4 --address 127.0.0.1:9"
    Then it ends with 1
    And it says "mimi-node: node 4 belongs to the cluster at …, not at 127.0.0.1:9: if it moved, `mimi-node cluster move --node 4 --address 127.0.0.1:9`"
    When the operator of a1 runs "cluster check"
    Then it ends with 0
    And it prints "every shard has its members, and nothing is unfinished"

  Scenario: a node that leaves stays away: it is not ready, does not start again, and its number is not used again
    Given 3 nodes of a.example, alone
    When the operator of a3 runs "cluster leave --node 3"
    Then it ends with 1
    And it says "mimi-node: ask another node: node 3 cannot let itself go"
    When the operator of a1 runs "cluster leave --node 3"
    Then it ends with 0
    And it says "... node 3 leaves: done, 16 of 16 shards were changed"
    And a1 sees that 1 and 2 vote and that nobody else belongs to the cluster
    And a3 says that it is not well: "left: this node has left the cluster and nothing is asked of it any more; stop it, its number and its data directory are not used again"
    And for 6 s a1 sees that 1 and 2 vote and that nobody else belongs to the cluster
    When a3 is told to stop
    And the operator of a3 runs "serve"
    Then it ends with 2
    And it says "mimi-node: `node.data_dir`: …: node 3 has left its cluster, and neither its number nor its directory is used again: give the node an empty data directory and a new number, and `mimi-node cluster join` it"
    When node 3 of a.example waits to be taken in again with an empty data directory
    And the operator of a1 runs "cluster join --node 3 --address <a3>"
    Then it ends with 1
    And it says "mimi-node: node 3 at … is not taken in: …node 3 has left the cluster…"

  Scenario: what an interrupted join left is found and finished
    Given 3 nodes of a.example, alone
    And node 4 of a.example waits to be taken in
    When the operator of a1 runs "cluster join --node 4 --address <a4>" and ends it after 5 shards
    And the operator of a2 runs "cluster check"
    Then it ends with 3
    And it prints "a change was begun and is not finished: node 4 joins at …"
    When the operator of a2 runs "cluster check --repair"
    Then it ends with 0
    And a1 sees that 1, 2 and 3 vote and that 4 belongs to the cluster

  Scenario: without a majority nothing is changed, and status says which shards have no leader
    Given 3 nodes of a.example, alone
    When the processes of a2 and a3 are killed
    And a1 has noticed that no majority answers
    And the operator of a1 runs "cluster status"
    Then it ends with 3
    And it says "mimi-node: 16 of 16 shards have no leader that a majority of their voters answers (…): see that the voters run and reach each other"
    When the operator of a1 runs "cluster leave --node 3"
    Then it ends with 1
    And it says "mimi-node: nothing was changed: shard 0 has no leader; see `mimi-node cluster status`, ask again"

  Scenario: a node that ran alone becomes three, and keeps what it holds
    Given the files of a.example
    And a.example runs
    When the operator of a.example runs "user add alice"
    Then it ends with 0
    When the operator of a.example makes a cluster of 3 out of it
    And node 2 is started before node 1, and node 3 last
    And the operator of a1 runs "cluster join --node 2 --address <a2> --node 3 --address <a3>"
    Then it ends with 0
    And a1 sees that 1, 2 and 3 vote and that nobody else belongs to the cluster
    When the operator of a3 runs "user list"
    Then it ends with 0
    And it prints "mimi://a.example/u/alice  active  0 consents"

  Scenario: a node that ran alone does not begin a cluster together with others
    Given the files of a.example
    And a.example runs
    When the operator of a.example makes a cluster of 3 out of it
    And the configuration of a1 lists node 2 as well
    And the operator of a1 runs "serve"
    Then it ends with 1
    And it says "mimi-node: node 1 ran alone until now and holds rooms and users of its own, so it can neither join a cluster nor begin one together with others. …"

  Scenario: a node moves to another address by configuration, and another one by command
    Given 3 nodes of a.example, alone
    When node 3 is stopped and started at another address, of which the others' configuration says nothing
    Then a1 sees that all three nodes are connected
    When the operator of a1 runs "cluster move --node 3 --address 127.0.0.1:9"
    Then it ends with 1
    And it says "mimi-node: node 3 does not answer at 127.0.0.1:9 (…): …"
    When the operator of a1 runs "cluster move --node 3 --address <a3>"
    Then it ends with 0
    And a2 sees that every shard has node 3 at <a3>

  Scenario: a node with another hub key, or of another cluster, does not start
    Given 3 nodes of a.example, alone
    When a2 is told to stop
    And the hub key of a2 is replaced
    And the operator of a2 runs "serve"
    Then it ends with 2
    And it says "mimi-node: …the hub's key is another one than this node had: the rooms of this provider know the one before, and nobody could enter them by itself; put that file back as node.hub_key, or name it in node.hub_keys"
