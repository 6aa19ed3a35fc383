# Source: transport requirements, section 3.2.
Feature: Sending a Commit

  Background:
    Given the providers a.example and b.example
    And alice and amy at a.example
    And bob and carol at b.example
    And the room den of a.example with alice, bob and carol

  @R1-01 @R1-03 @R3.2-01 @R3.2-03 @R3.2-19 @R3.2-20
  Scenario: two members commit for the same epoch, one wins, the other learns why and builds again
    When alice and bob commit for the same epoch at the same time
    Then exactly one commit is accepted
    And the other is refused as wrong epoch, with the current epoch and the winner's hash
    And alice, bob and carol agree on epoch 2
    When the loser commits again
    Then alice, bob and carol agree on epoch 3

  @R3.2-01
  Scenario: three members contest ten epochs, and each epoch has one Commit
    When alice, bob and carol contest 10 epochs
    Then each of the 10 epochs had exactly one winner
    And alice, bob and carol agree on epoch 11

  @R3-02 @R3.2-02
  Scenario: without its hub a room takes no Commit, and none is queued
    Given bob has another device, watch
    And b.example is at rest
    When a.example is killed
    And bob prepares a commit
    And bob sends his bundle
    Then it is refused as unavailable
    And no state of b.example has changed, nor does it
    When a.example is started again
    Given a.example is at rest
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 1
    And alice, bob and carol agree on epoch 1
    When bob sends his bundle
    Then it is accepted
    And alice, bob and carol agree on epoch 2

  @R3.2-24
  Scenario: the same bundle again gets the first answer, also after a crash of the hub
    When bob prepares a commit
    And bob sends his bundle
    Then it is accepted
    When bob sends his bundle
    Then it is accepted as before
    When a.example is killed
    And a.example is started again
    And bob sends his bundle
    Then it is accepted as before
    And alice, bob and carol agree on epoch 2

  @R3.2-01 @R3.2-24
  Scenario: who opens epoch after epoch waits, the others find one to commit in, also after the hub was killed
    Given a.example lets a member commit 4 times, and once a minute after that
    When bob prepares a commit
    And bob sends his bundle
    Then it is accepted
    When bob commits 3 times
    And bob sends his bundle
    Then it is accepted as before
    When bob prepares a commit
    And bob sends his bundle
    Then it is refused, to be tried again after at most 60 s
    And alice, bob and carol agree on epoch 5
    When carol commits
    Then alice, bob and carol agree on epoch 6
    When a.example is killed
    And a.example is started again
    And bob prepares a commit
    And bob sends his bundle
    Then it is refused, to be tried again after at most 60 s
    When alice commits
    And carol adds amy
    Then alice, amy, bob and carol agree on epoch 8

  @R3.2-04 @R3.2-09 @R3.2-19
  Scenario Outline: a bundle of alice <flaw> is refused as a whole and the room stays as it was
    When alice sends a bundle that adds amy <flaw>
    Then it is refused with the code <code>
    And no state of a.example has changed
    And alice, bob and carol agree on epoch 1
    When alice adds amy
    Then alice, amy, bob and carol agree on epoch 2

    Examples:
      | flaw                              | code                |
      | without its Welcome               | welcome_mismatch    |
      | with the tree of the epoch before | tree_mismatch       |
      | with the GroupInfo of another     | tree_mismatch       |
      | with another group's Welcome      | welcome_mismatch    |

  @R3.2-08 @R3.2-10 @R3.2-11 @R3.2-19
  Scenario Outline: a bundle of alice <flaw> is refused, and she is told which field it is
    When alice sends a bundle that adds amy <flaw>
    Then it is refused with the code <code>, for <reason>
    And no state of a.example has changed
    And alice, bob and carol agree on epoch 1

    Examples:
      | flaw                               | code                | reason       |
      | without external_pub               | group_info_mismatch | external_pub |
      | with the tree inside its GroupInfo | group_info_mismatch | ratchet_tree |
      | with a GroupInfo signed by nobody  | signature           | GroupInfo    |

  @R3.2-09 @R3.2-19
  Scenario Outline: a bundle whose GroupInfo has another <field> than its Commit makes is refused
    When bob sends a bundle whose GroupInfo has another <field>, rightly signed
    Then it is refused with the code <code>, for <said>
    And no state of a.example has changed
    When bob commits
    Then alice, bob and carol agree on epoch 2

    Examples:
      | field                     | code                | said                      |
      | version                   | unsupported         | version                   |
      | cipher_suite              | group_info_mismatch | cipher_suite              |
      | group_id                  | group_info_mismatch | group_id                  |
      | epoch                     | group_info_mismatch | epoch                     |
      | tree_hash                 | tree_mismatch       | tree                      |
      | confirmed_transcript_hash | group_info_mismatch | confirmed_transcript_hash |
      | extensions                | group_info_mismatch | extensions                |
      | confirmation_tag          | group_info_mismatch | confirmation_tag          |
      | signer                    | group_info_mismatch | signer                    |

  @R3.2-12
  Scenario: a GroupInfo is as long for many members as for few, on every way, and none is long
    Given zoe at b.example with the clients z1, z2, z3, z4, z5, z6, z7 and z8
    And z1, z2, z3, z4, z5, z6, z7 and z8 uploaded 1 KeyPackage
    And zoe consents to alice
    And bob has another device, watch
    When alice prepares a commit of which the GroupInfo is measured
    And alice adds zoe
    Then alice, bob, carol, z1 and z8 agree on epoch 2
    When alice prepares a commit of which the GroupInfo is measured
    Then the GroupInfo has as many bytes as before
    When watch asks for the GroupInfo
    Then the GroupInfo that watch got has less than 1024 bytes
    When bob sends a bundle whose GroupInfo has 66000 bytes, rightly signed
    Then it is refused with the code malformed, for limit
    And no state of a.example has changed

  @R3.2-05
  Scenario: a bundle that adds nobody must not hold a Welcome
    When bob sends a bundle with a Welcome for nobody
    Then it is refused with the code welcome_mismatch
    And alice, bob and carol agree on epoch 1

  @R3.2-06 @R3.2-07 @R3.2-19
  Scenario: the Welcome and the GroupInfo of a Commit that lost are thrown away with it
    Given carol has another device, watch
    When bob prepares a commit that adds amy
    And alice commits
    And bob sends his bundle
    Then it is refused as wrong epoch
    And amy is in no room
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 2
    And what watch got is the group as alice knows it
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol and watch agree on epoch 3
    When bob adds amy
    Then alice, amy, bob, carol and watch agree on epoch 4
    And amy joined in epoch 4

  @R3.2-07 @R3.2-19
  Scenario: the GroupInfo of a bundle that is refused is never given to anybody
    Given carol has another device, watch
    When alice sends a bundle that adds amy with another group's Welcome
    Then it is refused with the code welcome_mismatch
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 1
    And what watch got is the group as alice knows it
    When watch enters with its GroupInfo
    Then it is accepted
    And alice, bob, carol and watch agree on epoch 2

  @R3.2-27 @R5-29
  Scenario: who was welcomed long ago still gets the tree of that epoch, and everything since
    Given amy is offline
    When bob adds amy
    And alice commits 7 times
    And a.example is killed
    And a.example is started again
    And amy comes back
    Then alice, amy, bob and carol agree on epoch 9
    And amy processed 7 Commits

  @R3.2-21
  Scenario: proposals to remove each other are both taken, and one Commit settles it
    When alice proposes to remove bob
    And bob proposes to remove alice
    Then both proposals are taken
    When alice, having seen 2 proposals, commits
    Then alice and carol agree on epoch 2
    And bob is not in the room any more

  @R3.2-22
  Scenario: a third member's Commit that takes in both removals is refused with both references
    When alice proposes that bob goes
    And bob proposes that alice goes
    And carol, having seen 2 proposals, tries to commit
    Then it is refused, with the references of all 2 proposals
    When alice, having seen 2 proposals, commits
    Then alice and carol agree on epoch 2
    And bob is not in the room any more

  @R3.2-23
  Scenario: who asks to leave is let go by the next Commit, whoever makes it
    When bob prepares a commit
    And carol asks to leave
    And bob sends his bundle
    Then it is refused, for it omits the proposal
    When alice, having seen 1 proposal, commits
    Then alice and bob agree on epoch 2
    And carol is not in the room any more
    And the room has the members alice and bob, as bob sees it

  @R3.2-25 @R3.3-12
  Scenario: further devices of users in the room join by themselves, at the hub and elsewhere
    Given alice has another device, tablet
    And bob has another device, watch
    When tablet enters with what alice tells it
    Then it is accepted
    And alice, bob, carol and tablet agree on epoch 2
    When watch enters with what bob tells it
    Then it is accepted
    And alice, bob, carol, tablet and watch agree on epoch 3
    And watch joined in epoch 3
    When tablet commits
    And watch commits
    Then alice, bob, carol, tablet and watch agree on epoch 5
    When watch removes tablet
    Then alice, bob, carol and watch agree on epoch 6
    And tablet is not in the room any more

  @R3.2-25
  Scenario: a stranger does not join by itself, whatever it knows
    Given dave at b.example
    And a.example is at rest
    When dave enters with what alice tells it
    Then it is refused as not authorized
    And no state of a.example has changed
    And dave is in no room
    And alice, bob and carol agree on epoch 1

  @R3.2-25
  Scenario: who was removed does not come back by itself
    When alice removes carol
    And carol enters with what alice tells it
    Then it is refused as not authorized
    And alice and bob agree on epoch 2

  @R3.2-25
  Scenario: a client replaces its own leaf, and only that one
    When bob enters with what alice tells it
    Then it is accepted
    And alice, bob and carol agree on epoch 2
    And the room has the members alice, bob and carol, as carol sees it
    When bob commits
    Then alice, bob and carol agree on epoch 3

  @R3.2-01 @R3.2-24 @R3.2-25
  Scenario: an external Commit is one Commit of its epoch like any other, and a retry gets its first answer
    Given bob has another device, watch
    When watch prepares to enter with what bob tells it
    And alice commits
    And watch sends its bundle
    Then it is refused as wrong epoch
    When carol commits
    And watch enters with what carol tells it
    Then it is accepted
    When watch sends its bundle
    Then it is accepted as before
    And alice, bob, carol and watch agree on epoch 4

  @R3.2-23 @R3.2-25
  Scenario: who enters lets go who is leaving
    Given alice has another device, tablet
    When carol asks to leave
    And alice, having seen 1 proposal, waits
    And tablet enters with what alice tells it
    Then it is accepted
    And alice, bob and tablet agree on epoch 2
    And carol is not in the room any more

  @R3.2-13 @R3.2-14 @R3.2-15 @R3.2-17
  Scenario: members of one room send trees in every container there is, and agree on every epoch
    Given alice sends trees as delta
    And bob sends trees as zstd
    And carol sends trees as distributionService
    When alice commits
    And bob commits
    And carol commits
    Then alice, bob and carol agree on epoch 4
    When alice adds amy
    Then alice, amy, bob and carol agree on epoch 5
    Given amy sends trees as reference
    When amy commits
    Then alice, amy, bob and carol agree on epoch 6
    When bob removes carol
    And alice commits
    Then alice, amy and bob agree on epoch 8
    And carol is not in the room any more
    Given bob sends trees as full
    When bob adds carol
    Then alice, amy, bob and carol agree on epoch 9
    When amy commits
    Then alice, amy, bob and carol agree on epoch 10

  @R3.2-13 @R3.2-14 @R3.2-15 @R3.2-17
  Scenario Outline: a room lives on trees sent as <container>, also after its hub was killed
    Given alice, bob and carol send trees as <container>
    When alice commits
    Then alice, bob and carol agree on epoch 2
    When bob adds amy
    Then alice, amy, bob and carol agree on epoch 3
    When a.example is killed
    And a.example is started again
    And carol commits
    Then alice, amy, bob and carol agree on epoch 4
    When alice removes amy
    Then alice, bob and carol agree on epoch 5
    When bob prepares a commit
    Then the GroupInfo of his bundle has less than 1024 bytes
    And the tree of his bundle is sent as <container>
    When bob sends his bundle
    Then it is accepted
    And alice, bob and carol agree on epoch 6

    Examples:
      | container           |
      | full                |
      | zstd                |
      | delta               |
      | distributionService |
      | reference           |

  @R3.2-13 @R3.2-14 @R3.2-15
  Scenario Outline: a bundle of bob whose tree is <tree> is refused and the room stays as it was
    When bob sends a bundle whose tree is <tree>
    Then it is refused with the code <code>
    And no state of a.example has changed
    When bob commits
    Then alice, bob and carol agree on epoch 2

    Examples:
      | tree                                   | code              |
      | a delta that starts from another epoch | bad_tree_delta    |
      | a delta that starts from another tree  | bad_tree_delta    |
      | a delta to another tree                | tree_mismatch     |
      | a delta with a node too many           | bad_tree_delta    |
      | a delta of no bytes                    | bad_tree_delta    |
      | a zstd frame of another tree           | tree_mismatch     |
      | a zstd frame that is cut               | bad_tree_zstd     |
      | two zstd frames                        | bad_tree_zstd     |
      | a zstd bomb                            | bad_tree_zstd     |
      | a zstd frame of 2 MiB                  | tree_too_large    |
      | at a host that nobody knows            | tree_host_unknown |

  @R3.2-16
  Scenario: a tree that lies elsewhere is referred to, and the hub never goes there
    Given a.example allows trees at a host that writes down who comes
    And bob has another device, watch
    And carol sends trees as reference
    When carol commits
    Then alice, bob and carol agree on epoch 2
    When a.example is killed
    And a.example is started again
    And watch asks for the GroupInfo, with the tree as full
    Then the tree comes to watch as full
    When watch asks for the GroupInfo, with the tree as reference
    Then the tree comes to watch as reference
    When bob sends a bundle whose tree is at a host that nobody knows
    Then it is refused with the code tree_host_unknown
    And nobody came to that host

  @R3.2-15 @R3.2-17
  Scenario: a room is not created without its tree
    Given alice has a group for the room attic of a.example
    When alice offers it with its tree as distributionService
    Then it is refused with the code tree_not_whole
    When alice offers it with its tree as delta
    Then it is refused with the code tree_not_whole
    When alice offers it with its tree as reference
    Then it is refused with the code tree_not_whole
    When alice offers it with its tree as zstd
    Then the room is created

  @R5-03 @R5-18 @R4-09
  Scenario: proposals reach everybody before the Commit that names them
    When carol proposes an update
    And alice, having seen 1 proposal, commits
    Then alice, bob and carol agree on epoch 2
    And alice, bob and carol saw 1 proposal

  @R4-10 @R4-09
  Scenario: a proposal is void after its epoch, also at the hub
    Given bob has another device, watch
    When carol proposes an update
    And watch asks for the GroupInfo
    Then what watch got holds the proposal of carol, with the hub's time
    When alice commits, having heard of no proposal
    Then alice, bob and carol agree on epoch 2
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 2
    And what watch got holds no proposal
    When bob makes a proposal and keeps it
    And alice commits
    And bob sends the proposal that he kept
    Then it is refused as wrong epoch
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 3
    And what watch got holds no proposal

  @R4-10 @R4-09
  Scenario: a proposal that meets a Commit on its way is refused, or waits no more
    Given bob has another device, watch
    When alice commits while carol proposes an update
    Then alice, bob and carol agree on epoch 2
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 2
    And what watch got holds no proposal

  @R5-03
  Scenario: proposals that are made together are taken together, or not at all
    Given bob has another device, watch
    When carol proposes in one request an update and what is no proposal
    Then it is refused with the code malformed, for Proposal
    When watch asks for the GroupInfo
    Then watch has the GroupInfo of epoch 1
    And what watch got holds no proposal
    When carol proposes in one request that alice and bob go
    Then alice and bob are each sent 2 proposals in one event

  @R3.2-01 @R5-14 @R5-17
  Scenario: a room survives that its hub is killed between Commits
    When alice commits
    And a.example is killed
    And a.example is started again
    And bob commits
    And a.example is killed
    And a.example is started again
    And carol commits
    Then alice, bob and carol agree on epoch 4
