# Source: transport requirements, section 3.3
Feature: Asking for the GroupInfo

  Background:
    Given the providers a.example and b.example
    And alice and carol at a.example
    And bob at b.example
    And the room den of a.example with alice, bob and carol

  @R3.3-08 @R3.3-09 @R3.3-11 @R3.3-12
  Scenario: another device joins by itself, and only it can read what the hub sends for that
    Given bob has another device, watch
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 1
    And what b.example passed on to watch shows no member, no GroupInfo and no tree
    And no other key opens what watch got, and not for another request
    And the hub signed what watch got with its key in external_senders
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol and watch agree on epoch 2

  @R3.3-01
  Scenario: without the hub there is no GroupInfo, not even one that was there a moment ago
    Given bob has another device, watch
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 1
    When a.example is killed
    And watch asks for the GroupInfo
    Then watch learns that the hub cannot answer now
    When a.example is started again
    And watch joins by itself
    Then it is accepted
    And alice, bob, carol and watch agree on epoch 2

  @R3.3-02
  Scenario: who has no right to join learns nothing, not even whether there is a room
    Given dave at b.example
    And a.example is at rest
    When dave asks for the GroupInfo
    And dave asks for the GroupInfo of the room cellar of a.example
    Then both are told the same: not authorized
    And no state of a.example has changed

  @R3.3-03 @R3.3-04
  Scenario: joiners have it one after the other, in the order in which they came
    Given bob has another device, watch
    And carol has another device, tablet
    When watch asks for the GroupInfo
    And tablet asks for the GroupInfo and waits for 300 ms
    Then tablet is told to wait, in place 1
    When tablet queues for the GroupInfo
    Then tablet's turn has not come
    When watch enters with its GroupInfo
    Then it is accepted
    And tablet's turn comes, within 5 s
    And tablet has the GroupInfo of epoch 2
    When tablet enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol, watch and tablet agree on epoch 3

  @R3.3-03 @R3.3-04
  Scenario: a member's Commit does not wait for a joiner, and ends the lease
    Given bob has another device, watch
    And carol has another device, tablet
    When watch asks for the GroupInfo
    And tablet queues for the GroupInfo
    And alice commits
    Then tablet's turn comes, within 5 s
    And tablet has the GroupInfo of epoch 2
    When watch enters with its GroupInfo
    Then it is refused as wrong epoch
    When tablet enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol and tablet agree on epoch 3

  @R3.3-04 @R3.3-05
  Scenario: a lease that is not used ends by itself
    Given bob has another device, watch
    And carol has another device, tablet
    When watch asks for the GroupInfo
    And tablet joins by itself
    Then it is accepted
    And alice, bob, carol and tablet agree on epoch 2

  @R3.3-05 @R3.3-12
  Scenario: who comes when its lease is over is told so, and the next one gets in
    Given a.example lends the GroupInfo for 5000 ms
    And bob has another device, watch
    And carol has another device, tablet
    When watch asks for the GroupInfo
    And the lease of watch is over
    And watch enters with its GroupInfo
    Then it is refused, for the lease is over
    When tablet joins by itself
    Then it is accepted
    And alice, bob, carol and tablet agree on epoch 2

  @R3.3-05
  Scenario: who asks again and again without a Commit is told to wait, and nobody else
    Given bob has another device, watch
    And carol has another device, tablet
    When watch asks for the GroupInfo 3 times
    And watch asks for the GroupInfo
    Then watch is told to ask later
    When tablet joins by itself
    Then it is accepted
    And alice, bob, carol and tablet agree on epoch 2

  @R3.3-10
  Scenario: what a joiner must let go comes with the GroupInfo
    Given bob has another device, watch
    When carol asks to leave
    And watch asks for the GroupInfo
    Then what watch got holds the proposal of carol, with the hub's time
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob and watch agree on epoch 2
    And carol is not in the room any more

  @R3.2-13 @R3.2-14 @R3.2-15 @R3.3-11
  Scenario Outline: a joiner who was too late asks for the tree as <container>, and it comes as <comes>
    Given bob has another device, watch
    When watch asks for the GroupInfo
    And alice <changes>
    And watch asks for the GroupInfo, with the tree as <container>
    Then watch has the GroupInfo of epoch 2
    And the tree comes to watch as <comes>
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob and watch agree on epoch 3

    Examples:
      | container | comes | changes       |
      | full      | full  | commits       |
      | zstd      | zstd  | commits       |
      | delta     | full  | commits       |
      | reference | full  | commits       |

  @R3.2-15 @R3.3-11
  Scenario Outline: a joiner of a larger room who was too late gets the tree as what has changed, when somebody <changes>
    Given bob has another device, watch
    And alice has added 30 others to the room
    When watch asks for the GroupInfo
    And alice <changes>
    And watch asks for the GroupInfo, with the tree as delta
    Then watch has the GroupInfo of epoch 3
    And the tree comes to watch as delta
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob and watch agree on epoch 4

    Examples:
      | changes       |
      | commits       |
      | removes carol |

  @R3.2-26
  Scenario: room policy travels with every GroupInfo, also what the hub does not know of it
    Given alice opened the room hall of a.example with room policy
    And alice has another device, tablet
    When tablet asks for the GroupInfo
    Then what tablet got holds the room policy
    When tablet enters with its GroupInfo
    Then it is accepted
    When alice commits
    And tablet asks for the GroupInfo
    Then tablet has the GroupInfo of epoch 2
    And what tablet got holds the room policy

  @R3.2-26
  Scenario: room policy whose components are out of order opens no room
    When alice opens the room hall of a.example with room policy out of order
    Then it is refused with the code malformed

  @R3.2-16 @R3.2-17 @R3.3-11
  Scenario Outline: who has the tree gets the GroupInfo without it, asking for it as <container>
    Given bob has another device, watch
    And alice sends trees as reference
    When alice commits
    And watch asks for the GroupInfo, with the tree as zstd
    Then the tree comes to watch as zstd
    When watch asks for the GroupInfo, with the tree as <container>
    Then the tree comes to watch as <container>
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol and watch agree on epoch 3

    Examples:
      | container           |
      | distributionService |
      | reference           |

  @R3.3-11
  Scenario: after an accepted Commit nobody gets an older GroupInfo
    Given bob has another device, watch
    When alice commits
    And watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 2
    When bob commits
    And watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 3

  @R3.3-12
  Scenario: only who has the lease joins with it
    Given bob has another device, watch
    And carol has another device, tablet
    When watch asks for the GroupInfo
    And tablet enters with the GroupInfo of watch
    Then it is refused, for it needs the lease
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol and watch agree on epoch 2

  @R3.3-03
  Scenario: many devices join at the same time
    Given alice has another device, tablet
    And bob has another device, watch
    And bob has another device, car
    And carol has another device, fridge
    When tablet, watch, car and fridge join by themselves at the same time
    Then alice, bob, carol, tablet, watch, car and fridge agree on epoch 5

  @R3.3-06 @R3.3-07
  Scenario: a code is used up by the accepted join, not by the request
    Given dave and erin at b.example
    And alice makes a link called key for 1 join
    When dave asks for the GroupInfo with key
    Then dave has the GroupInfo of epoch 1
    And alice sees that key has 1 join left
    When alice commits
    And erin follows key
    Then it is accepted
    And alice sees that key has 0 joins left
    And alice, bob, carol and erin agree on epoch 3
    When dave follows key
    Then it is refused as not authorized

  @R3.3-04 @R3.3-07
  Scenario: the hub is killed while somebody has the lease, and nothing of it is lost or doubled
    Given dave and erin at b.example
    And alice makes a link called key for 1 join
    When dave asks for the GroupInfo with key
    And a.example is killed
    And a.example is started again
    Then alice sees that key has 1 join left
    When dave enters with its GroupInfo
    Then it is accepted
    When a.example is killed
    And a.example is started again
    Then alice sees that key has 0 joins left
    When erin follows key
    Then it is refused as not authorized
    And alice, bob, carol and dave agree on epoch 2
