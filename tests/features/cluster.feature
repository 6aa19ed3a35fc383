# Source: transport requirements, section 3 and 3.2; reliability of a provider of several nodes.
@cluster @several-nodes
Feature: A provider of several nodes

  @R3.2-01 @R3.1-18 @R5-14 @I1 @I2 @I3 @I10 @I11 @I14 @I15 @I28
  Scenario: what was acknowledged survives that the leader is killed in mid-Commit, and then all nodes at once
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When alice and bob contest an epoch of the room
    And that node is killed while bob commits and alice sends
    And that node is started again
    And everybody talks
    And all nodes of a.example are killed at once and started again
    And alice repeats her first claim, and gets the same
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I1, I2, I3, I10, I11, I14, I15, I26 and I28

  @R3-02 @R3.3-03 @R3.3-04
  Scenario: the leader is killed while joiners queue: they are told to ask again, the lease holds, and everybody gets in
    Given 3 nodes of a.example, which lend the GroupInfo for 30000 ms, and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    And amy has the devices tablet and fridge at nodes that do not lead the room
    And bob has the devices watch and car at nodes that do not lead the room
    When tablet asks for the GroupInfo
    Then tablet has the GroupInfo of epoch 1
    When watch queues for the GroupInfo
    And fridge queues for the GroupInfo
    And car queues for the GroupInfo
    And that node is killed
    Then watch, fridge and car are told to ask again
    When tablet enters with its GroupInfo
    Then it is accepted
    When watch, fridge and car join by themselves at the same time
    And that node is started again
    And everybody talks
    Then those who are watched are in epoch 5, with tablet, watch, fridge and car
    And all nodes of a.example have one state

  @R3.3-07 @R7.3-03
  Scenario: the leader is killed while two follow a link for one join, and it is used up by the one who gets in
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    And dave and erin at b.example
    And amy, who is watched, makes a link called single for 1 join
    When that node is killed while dave and erin follow single at the same time
    Then exactly one of them is let in, and the other is not authorized
    And amy, who is watched, sees that single has 0 joins left
    When that node is started again
    And everybody talks
    Then amy, who is watched, sees that single has 0 joins left
    And all nodes of a.example have one state

  @R3-02 @R3.2-01 @I1 @I11 @I14 @I15 @I27 @I28
  Scenario: a leader that is cut off refuses, the others go on, and nothing is decided twice
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When the network around that node is cut
    And alice commits there in vain, and amy elsewhere with success
    And the network is whole again
    Then alice is told, too, whose Commit won
    When everybody talks
    Then all nodes of a.example have one state
    And the history shows I1, I11, I14, I15, I27 and I28

  @R3-02 @R3.2-01 @I1 @I11 @I14 @I15 @I27 @I28
  Scenario: a leader that hears nobody, or that nobody hears, decides nothing
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When the network to that node is cut
    And alice commits there in vain, and amy elsewhere
    And the network is whole again
    Then alice is told, too, whose Commit won
    Given alice asks the node that leads the room, and amy another
    When the network from that node is cut
    And alice commits there in vain, and amy elsewhere
    And the network is whole again
    Then alice is told, too, whose Commit won
    When everybody talks
    Then all nodes of a.example have one state
    And the history shows I1, I11, I14, I15, I27 and I28

  @R3.2-01 @I1 @I11 @I15 @I28
  Scenario: a leader that stood still decides nothing from its old term
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When that node stands still while alice commits there, and amy elsewhere with success
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I1, I11, I15 and I28

  @R3.2-01 @R5-14
  Scenario: a network that loses and delays costs time and nothing else
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And a network that loses 10 of a hundred datagrams and delays the others by up to 20 ms
    When alice and bob contest an epoch of the room
    And everybody talks
    And the network is reliable again
    Then all nodes of a.example have one state

  @R5-14 @I2 @I11 @I14 @I15 @I28
  Scenario: a restart of one node after the other costs nobody a request
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    When the nodes of a.example are restarted one by one, while alice and bob talk and amy commits
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I2, I11, I14, I15 and I28

  @R5-14 @I2 @I10 @I11 @I28
  Scenario: a node joins, one leaves and a lost one is replaced, while a leader is killed
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    When everybody talks
    And node 4 joins, and the node that leads the room is killed meanwhile, while amy commits
    And that node is started again
    And everybody talks
    And node 1 leaves
    Then nodes 2, 3 and 4 vote in every shard
    When node 3 is lost, and node 5 takes its place
    Then nodes 2, 4 and 5 vote in every shard
    And amy's Commit is accepted
    When everybody talks
    Then all nodes of a.example have one state
    And the history shows I2, I10, I11 and I28

  @R5-14 @I10 @I11 @I14 @I15 @I28
  Scenario: a node that was away for longer than the log is kept catches up by snapshot, and can lead
    Given 3 nodes of a.example, which seal their state after 10 entries, and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When the node of b.example is killed
    And that node is killed
    And alice sends 25 messages, one by one
    And amy sends 25 messages, one by one
    And that node is started again
    Then that node took over the snapshot of another
    And that node leads the room again
    When the node of b.example is started again
    And everybody has read everything
    Then all nodes of a.example have one state
    And the history shows I10, I11, I14, I15 and I28

  @I10 @I11 @I15 @I32
  Scenario: a node with damaged files is loud, and the others go on
    Given 3 nodes of a.example, which seal their state after 10 entries, and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And alice asks the node that leads the room, and amy another
    When alice sends 25 messages, one by one
    And everybody talks
    And that node is killed
    And a byte of its newest snapshot of the room's shard is changed
    Then amy's Commit is accepted
    And it starts from the snapshot before, with an alarm
    When everybody talks
    And that node is killed
    Then it refuses to start while a byte at the end of its log is changed, and starts with the log as it was
    When everybody talks
    Then all nodes of a.example have one state
    And the history shows I10, I11, I15 and I32

  @R1-02
  Scenario: whoever does not belong to the cluster is refused, and says so in one line
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    Then the certificate of a provider opens no door of the cluster
    And a node of another cluster is refused by both sides
    And a configuration that names one node twice is refused with one line
    When node 3 comes back with an empty disk
    Then node 3 is refused by the others, which say what to do
    And amy's Commit is accepted

  @I10 @I11 @I14 @I15 @I28
  Scenario: an older copy of a disk stays out at every start, and the disk itself is let in again
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When everybody talks
    And that node is killed, its directory is copied, and it is started again
    And everybody talks
    And that node is killed, and started on the copy, 3 times
    Then each time it has ended by itself, and said that its directory is an older copy
    When everybody talks
    And that node is started on its own directory
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I10, I11, I14, I15 and I28

  @I11 @I14
  Scenario: a copy of a disk that runs beside its node ends by itself, and the node goes on
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And alice asks the node that leads the room, and amy another
    When everybody talks
    Then a copy of that node's directory, started at another address, ends by itself and says that the node runs already
    When everybody talks
    Then all nodes of a.example have one state
    And the history shows I11 and I14

  @root @serial @I15
  Scenario: a leader with a slow disk goes on leading, slowly
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And alice asks the node that leads the room, and amy another
    When the disk of that node takes 20 writes a second, while amy commits 3 times
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I15

  @root @serial @I11 @I14
  Scenario: a leader is lost while the other disks are slow, and another is elected
    Given 3 nodes of a.example and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And alice asks the node that leads the room, and amy another
    When that node is killed, and the disks of the others take 8 writes a second
    And that node is started again
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I11 and I14

  @disks @I10 @I11 @I14 @I15
  Scenario: all disks of a.example are full for some seconds: nobody stops, nothing is lost
    Given 4 nodes of a.example, each on a disk of 160 MiB, and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    When alice sends 20 long messages, one by one
    And all disks of a.example are full for 9 s, while alice goes on sending long messages
    And alice goes on sending long messages for 5 s, and then all nodes of a.example are killed at once
    Then all nodes of a.example are ready again, by themselves
    When amy sends 20 long messages, one by one
    And everybody talks
    And all nodes of a.example are killed at once and started again
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I10, I11, I14 and I15

  @disks @I10 @I11 @I15 @I28
  Scenario: a leader whose disk is full lets another node lead, and starts again on the full disk
    Given 3 nodes of a.example, each on a disk of 160 MiB, and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When the disk of that node is full, amy's Commits are accepted elsewhere, and that node says why it is not ready
    And the disk of that node has room again
    And everybody talks
    And that node is killed while its disk is full, and started on it
    And the disk of that node has room again
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I10, I11, I15 and I28

  @disks @I10 @I11 @I15
  Scenario: a leader whose disk turns read-only ends by itself, the others go on, and it starts again on the mended disk
    Given 3 nodes of a.example, each on a disk of 160 MiB, and one of b.example
    And alice and amy of a.example and bob of b.example, watched, in one room
    And the nodes tell who leads
    And alice asks the node that leads the room, and amy another
    When the disk of that node turns read-only, and amy's Commits are accepted elsewhere
    And everybody talks
    And the disk of that node is mended, and the node started again
    And everybody talks
    Then all nodes of a.example have one state
    And the history shows I10, I11 and I15
