# Source: transport requirements, section 5.
Feature: Fanning out to the providers of the members

  Background:
    Given the providers a.example, b.example and c.example
    And alice and amy at a.example
    And bob and carol at b.example
    And dora at c.example

  @R5-02 @R5-04 @R5-29 @R1-02
  Scenario: a Welcome goes to the providers of the added, and their stream starts there
    Given the room den of a.example with alice and bob
    And c.example is at rest
    When alice sends "before dora"
    Then alice and bob have received "before dora"
    And no state of c.example has changed, nor does it
    And of the devices at c.example none is in a room
    When alice adds dora
    And alice sends "after dora"
    Then alice, bob and dora agree on epoch 2
    And dora joined in epoch 2
    And alice and bob have received "before dora" and "after dora"
    And dora has received exactly "after dora"
    And dora saw nothing from before she joined
    And of the devices at c.example only dora's is in a room

  @R5-04
  Scenario: each provider gets the Welcome for its own clients, with the tree, and for nobody else's
    Given the room den of a.example with alice and bob
    And c.example is played, and has KeyPackages of dora
    When alice adds dora
    And alice adds carol
    Then alice, bob and carol agree on epoch 3
    When alice adds amy
    Then alice, amy, bob and carol agree on epoch 4
    And c.example is sent the Commit of epoch 4
    And the Welcomes that c.example was sent are for dora, with the tree

  @R5-03
  Scenario: proposals that are made together reach every provider as one event
    Given the room den of a.example with alice, bob and carol
    And c.example is played, and has KeyPackages of dora
    When alice adds dora
    Then alice, bob and carol agree on epoch 2
    When carol proposes in one request that alice and bob go
    Then c.example is sent 2 proposals in one event

  @R5-04
  Scenario: a provider without a member hears nothing of a room
    Given the room den of a.example with alice and bob
    And c.example is at rest
    When alice sends "between us"
    Then alice and bob have received "between us"
    And no state of c.example has changed, nor does it

  @R5-25 @R5-26
  Scenario: a removed member gets the Commit that removes it and nothing after it
    Given the room den of a.example with alice, bob, carol and dora
    When alice sends "all four"
    And alice removes dora
    And alice sends "three of us"
    Then alice, bob and carol agree on epoch 2
    And dora has received exactly "all four"
    And dora is not in the room any more
    And alice, bob and carol have received "all four" and "three of us"

  @R5-25 @R1-02
  Scenario: a member who leaves is removed with the next Commit
    Given the room den of a.example with alice, bob and dora
    When dora proposes to leave
    And alice, having seen 1 proposal, commits
    Then alice and bob agree on epoch 2
    And dora is not in the room any more

  @R5-02 @R5-14 @R5-17 @R5-24
  Scenario: a member who was away gets all Commits in order, without a gap
    Given the room den of a.example with alice, bob and dora
    And dora is offline
    When alice commits 7 times
    And alice sends "are you back"
    Then alice and bob agree on epoch 8
    When dora comes back
    Then alice, bob and dora agree on epoch 8
    And dora processed 7 Commits
    And dora has received "are you back"

  @R5-23 @R5-24
  Scenario Outline: who was away for long reads <order>, and can read all of it
    Given the room den of a.example with alice, bob and dora
    And dora reads <order>
    And dora is offline
    When alice sends many messages and commits, 8 times over
    Then nothing is owed to c.example by a.example any more
    And dora is first sent what comes first when one reads <order>
    When dora comes back
    Then dora has read all messages of 8 rounds, <order>
    And alice, bob and dora agree on epoch 9

    Examples:
      | order                                          |
      | everything in order                            |
      | control events first                           |
      | control events first, then the newest messages |

  @R5-23
  Scenario: a Welcome comes before all that waits in other rooms
    Given the room den of a.example with alice, bob and dora
    And dora is offline
    When alice sends many messages and commits, 2 times over
    And alice opens the room attic of a.example and adds dora
    Then nothing is owed to c.example by a.example any more
    And dora is sent the Welcome to attic before any event
    When dora comes back
    Then dora has read all messages of 2 rounds, everything in order

  @R5-14 @R5-24
  Scenario: who comes when the events are not kept any more is told which, and joins again
    Given the room den of a.example with alice, bob and dora
    And dora is offline
    When alice sends "nobody fetches this"
    And alice commits 2 times
    Given c.example keeps events for 2 s
    When dora stays away until nothing of the room is kept any more
    And dora comes back
    Then dora is told that events are missing
    When dora takes its own place in the room anew
    Then alice, bob and dora agree on epoch 4
    When alice sends "welcome back"
    Then dora has received "welcome back"

  @R5-23
  Scenario: who changes the order midway misses nothing and reads nothing twice
    Given the room den of a.example with alice, bob and dora
    And dora reads control events first, then the newest messages
    And dora is offline
    When alice sends many messages and commits, 3 times over
    And dora comes back
    Then dora has read all messages of 3 rounds, control events first, then the newest messages
    Given dora reads everything in order
    And dora is offline
    When alice sends "in order again"
    And alice commits
    And dora comes back
    Then dora has received "in order again"
    And alice, bob and dora agree on epoch 5

  @R5-14 @R5-17 @R5-20
  Scenario: a provider that was down gets what it missed, once
    Given the room den of a.example with alice, bob and dora
    When c.example is killed
    And alice commits
    And alice sends "while you were down"
    And bob, having reached epoch 2, sends "me too"
    And c.example is started again
    Then alice, bob and dora agree on epoch 2
    And dora has received exactly "while you were down" and "me too"

  @R5-14
  Scenario: what the hub owes a provider survives that the hub is killed
    Given the room den of a.example with alice and dora
    When c.example is killed
    And alice sends "owed"
    And a.example is killed
    And a.example is started again
    And c.example is started again
    Then dora has received exactly "owed"

  @R5-21
  Scenario: a provider that is down does not hold up the others
    Given the room den of a.example with alice, bob and dora
    When c.example is killed
    And alice sends "hurry"
    Then alice and bob have received "hurry"
    When c.example is started again
    Then dora has received "hurry"

  @R5-14 @R5-21
  Scenario: a provider for which too much waits is brought into no more rooms until it is back
    Given a.example lets 3 items wait for a provider before it is brought into no more rooms
    When alice comes back
    And amy comes back
    Given the room den of a.example with alice, bob and dora
    And alice has a KeyPackage of dora for a room beside it
    When c.example is killed
    And alice sends "one"
    And alice commits 4 times
    Then alice cannot bring dora into that room, for too much waits for c.example
    When alice sends "den goes on"
    Then alice and bob have received "one" and "den goes on"
    When c.example is started again
    Then dora has received "one" and "den goes on"
    And alice brings dora into that room

  @R5-27
  Scenario: the own messages come back with their own number
    Given the room den of a.example with alice and bob
    When alice sends "mine"
    And bob sends "his"
    Then alice and bob have received "mine" and "his"
    And each own message of alice and bob carries its own number

  @R5-11
  Scenario: events of many rooms go in one frame
    Given 8 rooms of a.example in one shard with alice and dora
    When c.example is killed
    And a.example is killed
    And a.example is started again
    And alice sends 20 messages to each of the rooms
    And c.example is started again
    Then dora has received 20 messages in each of the rooms, in order
    And nothing is owed to c.example by a.example any more
    And a.example sent c.example at least 160 events in at most 3 frames

  @R5-12
  Scenario: a frame is acknowledged once, and only when it is there to stay
    Given the room den of a.example with alice and dora
    When a.example is killed
    And alice says 480 messages, which the story brings dora's provider in 12 frames, and kills it with the last acknowledgement
    And c.example is started again
    Then dora has received 480 messages of alice, in order

  @R5-20
  Scenario: events that come again are taken as before, and change nothing
    Given the room den of a.example with alice and dora
    And dora is offline
    When a.example is killed
    And alice says 12 messages, which the story brings dora's provider in 3 frames
    Given c.example is at rest
    When the story brings c.example the same frames again
    Then no state of c.example has changed, nor does it
    When dora comes back
    Then dora is sent 12 events, each once
    And dora has received 12 messages of alice, in order

  @R5-11 @R5-12
  Scenario: many events of many rooms go in few frames, and are acknowledged in bulk
    Given 5 rooms of a.example with alice and dora
    When c.example is killed
    And a.example is killed
    And a.example is started again
    And alice sends 40 messages to each of the rooms
    And c.example is started again
    Then dora has received 40 messages in each of the rooms, in order
    And nothing is owed to c.example by a.example any more
    And a.example sent c.example at least 200 events in at most 20 frames

  @R5-11 @R5-12
  Scenario: a load that goes on is carried in few frames, and every event arrives once
    Given 4 rooms of a.example with alice and dora
    When alice sends 300 messages to each of the rooms
    Then dora has received 300 messages in each of the rooms, in order
    And nothing is owed to c.example by a.example any more
    And a.example sent c.example at least 1200 events in at most 300 frames

  @R5-15 @R5-16 @R5-17
  Scenario: messages never overtake into another epoch
    Given the room den of a.example with alice, bob and dora
    When alice commits 6 times, while bob and dora send 48 messages each
    Then alice, bob and dora have received 96 messages, each sender's in order
    And the messages of bob and dora have epochs that never go back, as alice, bob and dora see them

  @R4-10
  Scenario: after somebody entered by itself what was proposed before is void, and is proposed anew
    Given the room den of a.example with alice, bob and dora
    And bob has another device, watch
    When dora proposes an update
    And alice, having seen 1 proposal, waits
    And bob enters with what alice tells it
    Then it is accepted
    And alice, bob and dora agree on epoch 2
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 2
    And what watch got holds no proposal
    When dora proposes an update
    And alice, having seen 1 proposal, commits
    Then alice, bob and dora agree on epoch 3
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 3
    And what watch got holds no proposal

  @R5-10 @R5-03
  Scenario: of a device that is revoked the hub hears, and the next Commit removes it
    Given the room den of a.example with alice, amy, bob, carol and dora
    When the device of carol is revoked
    Then the connection of carol is over, and she is not let in again
    When dora, having seen 1 proposal, commits
    Then alice, amy, bob and dora agree on epoch 2
    And alice, amy, bob and dora saw 1 proposal
    And the room has the members alice, amy, bob and dora, as bob sees it
    When the user amy is deleted
    And bob, having seen 1 proposal, commits
    Then alice, bob and dora agree on epoch 3
    And the room has the members alice, bob and dora, as dora sees it

  @R5-10
  Scenario: what a hub is told of a device that is revoked outlives that the hub is down, and that the room's provider is
    Given the room den of a.example with alice, bob and carol
    When a.example is killed
    And the device of carol is revoked, which nobody has any more
    And b.example is killed
    And b.example is started again
    And a.example is started again
    And alice, having seen 1 proposal, commits
    Then alice and bob agree on epoch 2
    And the room has the members alice and bob, as bob sees it

  @R5-19
  Scenario: what the hub proposes is proposed anew when somebody enters by itself
    Given the room den of a.example with alice, bob, carol and dora
    When the device of carol is revoked
    And dora, having seen 1 proposal, waits
    And bob enters with what alice tells it
    Then it is accepted
    And alice is sent what the hub proposes in epoch 2 as one with the Commit that opens it
    And alice, bob and dora agree on epoch 2
    When alice, having seen 1 proposal, commits
    Then alice, bob and dora agree on epoch 3
    And the room has the members alice, bob and dora, as dora sees it

  @R5-22
  Scenario: a room's events have the hub's time, which never goes back and is the same everywhere
    Given the room den of a.example with alice, bob and dora
    When alice, bob and dora say 12 messages each
    Then the events that alice, bob and dora are sent have one number and one time everywhere, which never goes back

  @R5-26
  Scenario: a provider of which nobody is in the room any more gets nothing of it, until somebody is again
    Given the room den of a.example with alice, bob and dora
    When alice removes dora
    Then dora is not in the room any more
    And nothing is owed to c.example by a.example any more
    Given c.example is at rest
    And it is known how much a.example sent c.example
    When alice sends "among us"
    And bob sends "quite"
    Then alice and bob have received "among us" and "quite"
    And no state of c.example has changed, nor does it
    And a.example has sent c.example nothing more
    When alice adds dora
    And alice sends "welcome back"
    Then dora has received exactly "welcome back"
