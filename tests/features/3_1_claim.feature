# Source: transport requirements, section 3.1.
Feature: Claiming single-use KeyPackages

  Background:
    Given the providers a.example, b.example and c.example
    And alice at a.example

  @R1-01 @R3.1-02 @R3.1-04 @R3.1-05 @R3.1-13 @R3.1-14 @R3.1-15 @R3.1-16 @R3.1-20
  Scenario: one claim for users of two other providers gets a package or a reason for each client
    Given bobby at b.example with the clients bob1, bob2 and bob3
    And betty at b.example with the clients betty1 and betty2
    And bruce at b.example with the client bruce1
    And bella at b.example with the client bella1
    And barry at b.example with the client barry1
    And cathy at c.example with the client cathy1
    And b.example knows no ghost
    And bob1, bob2, bob3, betty1, bruce1, bella1 and cathy1 uploaded 2 KeyPackages
    And betty2 uploaded 2 KeyPackages of another ciphersuite
    And bobby, betty, bella, barry and cathy consent to alice
    And bella was deleted
    And bob1, bob2, bob3, betty1, bruce1 and cathy1 are offline
    When alice claims KeyPackages of bobby, betty, bruce, bella, barry, ghost and cathy
    Then the claim answers
      | bobby | bob1   | KeyPackage                |
      | bobby | bob2   | KeyPackage                |
      | bobby | bob3   | KeyPackage                |
      | betty | betty1 | KeyPackage                |
      | betty | betty2 | no compatible KPs         |
      | bruce |        | no consent to provide KPs |
      | bella |        | user deleted              |
      | barry | barry1 | KPs exhausted             |
      | ghost |        | user unknown              |
      | cathy | cathy1 | KeyPackage                |

  @R3.1-05 @R3.1-06
  Scenario: a claim for users of two providers is one request to each, with its own users and nobody else
    Given b.example is played, and has KeyPackages of bobby and betty
    And c.example is played, and has KeyPackages of cathy
    When alice claims KeyPackages of bobby, cathy and betty
    Then the claim answers
      | bobby | bobby | KeyPackage |
      | cathy | cathy | KeyPackage |
      | betty | betty | KeyPackage |
    And b.example was asked once, for bobby and betty
    And c.example was asked once, for cathy

  @R3.1-06 @R3.1-16
  Scenario: a user of somebody else in the list is refused alone, and the others are served
    Given bobby at b.example with the client bob1
    And cathy at c.example
    And bob1 uploaded 1 KeyPackage
    And bobby and cathy consent to alice
    Then b.example answers a claim of alice of bobby and cathy, who is not its user, for each:
      | bobby | bob1 | KeyPackage                        |
      | cathy |      | user of another provider |

  @R3.1-01 @R3.1-16 @R3-02
  Scenario: a provider that is down is unavailable for its own users only
    Given bobby at b.example with the client bob1
    And cathy and carl at c.example
    And bob1 and cathy uploaded 2 KeyPackages
    And bobby, cathy and carl consent to alice
    When b.example is killed
    And alice claims KeyPackages of bobby, cathy and carl
    Then the claim answers
      | bobby |       | unavailable   |
      | cathy | cathy | KeyPackage    |
      | carl  | carl  | KPs exhausted |
    When b.example is started again
    And alice repeats the claim
    Then the claim answers
      | bobby | bob1  | KeyPackage    |
      | cathy | cathy | KeyPackage    |
      | carl  | carl  | KPs exhausted |
    And the packages of cathy are the same as in the claim before

  @R3.1-19 @R3.1-24
  Scenario: the same claim again gets the same packages, also when its provider was killed in between
    Given bobby at b.example with the clients bob1 and bob2
    And bob1 and bob2 uploaded 3 KeyPackages
    And bobby consents to alice
    When alice claims KeyPackages of bobby
    And alice repeats the claim
    Then the packages of bobby are the same as in the claim before
    When b.example is killed
    And b.example is started again
    And alice repeats the claim
    Then the packages of bobby are the same as in the claim before
    And b.example holds 2 KeyPackages of bob1

  @R3.1-18 @R3.1-24
  Scenario: no package is handed out twice, however many ask at once, and all are found
    Given amy at a.example
    And cathy at c.example
    And bobby at b.example with the clients bob1 and bob2
    And bob1 and bob2 uploaded 12 KeyPackages
    And bobby consents to alice
    And bobby consents to amy
    And bobby consents to cathy
    When alice, amy and cathy claim KeyPackages of bobby 5 times each at the same time
    Then 24 different packages were handed out, and 6 times there was none left

  @R3.1-18
  Scenario: a package that was handed out is not handed out again after a crash
    Given bobby at b.example with the client bob1
    And bob1 uploaded 2 KeyPackages
    And bobby consents to alice
    When alice claims KeyPackages of bobby
    And b.example is killed
    And b.example is started again
    And alice claims KeyPackages of bobby
    Then the packages of bobby are not those of the claim before
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KPs exhausted |

  @R3.1-23
  Scenario: a claim of the own user leaves out the client that asks
    Given bobby at b.example with the clients bob1, bob2 and bob3
    And bob1, bob2 and bob3 uploaded 2 KeyPackages
    When bob2 claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |
      | bobby | bob3 | KeyPackage |

  @R3.1-02 @R3.1-09
  Scenario: consent for one room is good for that room only
    Given bobby at b.example with the client bob1
    And bob1 uploaded 3 KeyPackages
    And bobby consents to alice for the room den of a.example
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | | no consent to provide KPs |
    When alice claims KeyPackages of bobby for the room attic of a.example
    Then the claim answers
      | bobby | | no consent to provide KPs |
    When alice claims KeyPackages of bobby for the room den of a.example
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-04 @R3.1-11
  Scenario: the first ciphersuite of the list that a client has a package for is taken
    Given bobby at b.example with the clients bob1 and bob2
    And bob1 and bob2 uploaded 1 KeyPackage
    And bob2 uploaded 1 KeyPackage of another ciphersuite
    And bobby consents to alice
    When alice asks for KeyPackages of bobby, preferring ciphersuite 3 to 1
    Then the claim answers
      | bobby | bob1 | KeyPackage of suite 1 |
      | bobby | bob2 | KeyPackage of suite 3 |

  @R3.1-04 @R3.1-11
  Scenario: each of the three ciphersuites can be asked for
    Given bobby at b.example with the client bob1
    And bob1 uploaded 2 KeyPackages
    And bob1 uploaded a KeyPackage of suite 2
    And bob1 uploaded 1 KeyPackage of another ciphersuite
    And bobby consents to alice
    When alice asks for KeyPackages of bobby of the suites 2, 1
    Then the claim answers
      | bobby | bob1 | KeyPackage of suite 2 |
    When alice asks for KeyPackages of bobby of the suites 7, 3, 2, 1
    Then the claim answers
      | bobby | bob1 | KeyPackage of suite 3 |
    When alice asks for KeyPackages of bobby of the suites 3, 2
    Then the claim answers
      | bobby | bob1 | no compatible KPs |
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage of suite 1 |

  @R3.1-04 @R3.1-10 @R3.1-12 @R3.1-15
  Scenario: versions and required capabilities must be met, GREASE and what every client supports aside
    Given bobby at b.example with the clients bob1 and bob2
    And bob1 uploaded 6 KeyPackages that support the extension 61441
    And bob2 uploaded 6 KeyPackages
    And bobby consents to alice
    When alice asks for KeyPackages of bobby that support the extensions 61441, 2570, 3, 5
    Then the claim answers
      | bobby | bob1 | KeyPackage        |
      | bobby | bob2 | no compatible KPs |
    When alice asks for KeyPackages of bobby that support the proposals 1, 7, 60138
    Then the claim answers
      | bobby | bob1 | KeyPackage |
      | bobby | bob2 | KeyPackage |
    When alice asks for KeyPackages of bobby that support the proposals 9
    Then the claim answers
      | bobby | bob1 | no compatible KPs |
      | bobby | bob2 | no compatible KPs |
    When alice asks for KeyPackages of bobby that support the credentials 1
    Then the claim answers
      | bobby | bob1 | KeyPackage |
      | bobby | bob2 | KeyPackage |
    When alice asks for KeyPackages of bobby that support the credentials 2
    Then the claim answers
      | bobby | bob1 | no compatible KPs |
      | bobby | bob2 | no compatible KPs |
    When alice asks for KeyPackages of bobby of the versions 2, 1
    Then the claim answers
      | bobby | bob1 | KeyPackage |
      | bobby | bob2 | KeyPackage |
    When alice asks for KeyPackages of bobby of the versions 2
    Then the claim answers
      | bobby | | no MLS version in common |

  @R3.1-03
  Scenario: a KeyPackage is not handed out in the last minute of its life
    Given bobby at b.example with the client bob1
    And bob1 uploaded a KeyPackage that lives 3 seconds more than the margin
    And bobby consents to alice
    When 4 seconds have passed since
    And alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KPs exhausted |

  @R3.1-28
  Scenario: what may not be handed out is not taken in, each package for itself
    Given bobby at b.example with the client bob1
    Then bob1's uploads are answered:
      | a good one              | taken                                           |
      | the same again          | taken                                           |
      | another client's        | the credential does not name the client         |
      | one that lives 401 days | the limit is 34560000 s                         |
      | one of suite 4          | ciphersuite is not supported                    |
      | one that lives 89 days  | taken                                           |
      | noise                   | invalid KeyPackage                              |
    And b.example holds 2 KeyPackages of bob1
    Given bobby consents to alice
    When alice claims KeyPackages of bobby
    Then b.example holds 1 KeyPackages of bob1

  @R3.1-08
  Scenario: a claim for a thousand users is one claim, answered in its order, and one for more is none
    When alice claims KeyPackages of 1000 users that b.example does not know
    Then the claim answers for 1000 users that they are unknown
    And b.example does not look at a claim of alice for 1001 users

  @R3.1-07 @R3.1-17
  Scenario: a claim is signed by a client of the requester, and by nobody else
    Given bobby at b.example with the client bob1
    And bob1 uploaded 3 KeyPackages
    And bobby consents to alice
    And b.example is at rest
    Then alice cannot claim KeyPackages of bobby with a key that is not its device's
    And b.example does not give alice KeyPackages of bobby:
      | without a signature      |
      | with another's signature |
      | signed for another claim |
      | signed for other terms   |
    And no state of b.example has changed
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-02 @R3.1-07
  Scenario: a pseudonym is whoever holds its key, and does not say which user that is
    Given bobby at b.example with the client bob1
    And bob1 uploaded 3 KeyPackages
    And alice has a pseudonym at a.example
    And bobby consents to alice
    When alice claims KeyPackages of bobby under the pseudonym
    Then the claim answers
      | bobby | | no consent to provide KPs |
    Given bobby consents to the pseudonym
    When alice claims KeyPackages of bobby under the pseudonym
    Then the claim answers
      | bobby | bob1 | KeyPackage |
    When alice claims KeyPackages of bobby under the pseudonym with another key
    Then the claim answers
      | bobby | | the claim is not signed by the requester |

  @R3.1-01 @R3.1-19 @R3.1-22 @R3.1-26
  Scenario: a claim for a room goes through the room's hub
    Given cathy at c.example
    And bobby at b.example with the client bob1
    And bella at b.example with the client bella1
    And bob1 uploaded 6 KeyPackages
    And alice uploaded 2 KeyPackages
    And bobby consents to alice for the room den of c.example
    And alice consents to cathy
    When cathy creates the room den of c.example with alice
    And alice claims KeyPackages of bobby and bella for the room den of c.example
    Then the claim answers
      | bobby | bob1 | KeyPackage                |
      | bella |      | no consent to provide KPs |
    When alice repeats the claim
    Then the packages of bobby are the same as in the claim before
    When alice claims KeyPackages of bobby for the room attic of c.example
    Then the claim answers
      | bobby | | the hub of the room does not pass the claim on |
    And c.example cannot claim KeyPackages of bobby in the name of alice for a room of its own
    And b.example does not take a claim of alice of bobby passed on for a room of c.example
    When c.example is killed
    And alice claims KeyPackages of bobby for the room den of c.example
    Then the claim answers
      | bobby | | unavailable |
    When c.example is started again
    And alice repeats the claim
    Then the claim answers
      | bobby | bob1 | KeyPackage |
    And b.example holds 4 KeyPackages of bob1

  @R3.1-21
  Scenario: one requester cannot empty a stock, also when the provider was killed in between
    Given b.example lets one requester claim a user 3 times
    And amy at a.example
    And bobby at b.example with the client bob1
    And bob1 uploaded 9 KeyPackages
    And bobby consents to alice
    And bobby consents to amy
    When alice claims KeyPackages of bobby
    And alice claims KeyPackages of bobby
    And alice claims KeyPackages of bobby
    And alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When b.example is killed
    And b.example is started again
    And alice repeats the claim
    Then the claim answers
      | bobby | | too many claims |
    And b.example holds 6 KeyPackages of bob1
    When amy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-21
  Scenario: the users of one provider together cannot empty a stock either
    Given b.example lets one provider claim a user 3 times
    And amy at a.example
    And cathy at c.example
    And bobby at b.example with the client bob1
    And bob1 uploaded 9 KeyPackages
    And bobby consents to alice
    And bobby consents to amy
    And bobby consents to cathy
    When alice claims KeyPackages of bobby
    And alice claims KeyPackages of bobby
    And amy claims KeyPackages of bobby
    And amy claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When cathy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-21
  Scenario: one requester may claim only so many users of a shard, and of others no fewer
    Given b.example lets one requester claim 1 users of a shard
    And amy at a.example
    And bobby at b.example with the client bob1
    And betty at b.example with the client betty1
    And bobby and betty are in different shards
    And bob1 and betty1 uploaded 9 KeyPackages
    And bobby and betty consent to alice
    And bobby consents to amy
    When alice claims KeyPackages of bobby
    And alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When b.example is killed
    And b.example is started again
    And alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When alice claims KeyPackages of betty
    Then the claim answers
      | betty | betty1 | KeyPackage |
    When amy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-21
  Scenario: the users of one provider together may claim only so many users of a shard
    Given b.example lets one provider claim 2 users of a shard
    And amy at a.example
    And cathy at c.example
    And bobby at b.example with the client bob1
    And bob1 uploaded 9 KeyPackages
    And bobby consents to alice
    And bobby consents to amy
    And bobby consents to cathy
    When alice claims KeyPackages of bobby
    And amy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |
    When amy claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When cathy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-21
  Scenario: all together cannot empty the stock of a user, who claims her own as she likes
    Given b.example lets everybody claim a user 2 times
    And cathy at c.example
    And bobby at b.example with the clients bob1 and bob2
    And bob1 and bob2 uploaded 9 KeyPackages
    And bobby consents to alice
    And bobby consents to cathy
    When alice claims KeyPackages of bobby
    And cathy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |
      | bobby | bob2 | KeyPackage |
    When cathy claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | | too many claims |
    When bob1 claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob2 | KeyPackage |
    And b.example holds 7 KeyPackages of bob1

  @R3.1-21 @R3.1-22
  Scenario: the last tenth of a stock is for those with consent for every room
    Given amy at a.example
    And bobby at b.example with the client bob1
    And bob1 uploaded 10 KeyPackages
    And bobby consents to alice for the room den of a.example
    And bobby consents to amy
    When alice claims KeyPackages of bobby 9 times for the room den of a.example
    Then the claim answers
      | bobby | bob1 | KeyPackage |
    When alice claims KeyPackages of bobby for the room den of a.example
    Then the claim answers
      | bobby | bob1 | KPs exhausted |
    When amy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |

  @R3.1-27
  Scenario: an owner hears that its stock is low, and refills it
    Given bobby at b.example with the client bob1
    And bob1 uploaded 10 KeyPackages
    And bob1 keeps 10 KeyPackages in stock
    And bobby consents to alice
    When alice claims KeyPackages of bobby 8 times for the room den of a.example
    Then bob1 is told that 2 KeyPackages are left
    And b.example holds 10 KeyPackages of bob1

  @R3.1-25
  Scenario: a last-resort KeyPackage is taken in, and not given
    Given bobby at b.example with the client bob1
    And bob1 uploaded a last-resort KeyPackage
    And bobby consents to alice
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KPs exhausted |
    And b.example holds 0 KeyPackages of bob1

  @R3.1-25 @R3.1-19
  Scenario: where it is allowed, a last-resort KeyPackage is given once to each hub
    Given b.example allows last-resort packages
    And cathy at c.example
    And bobby at b.example with the client bob1
    And bob1 uploaded 1 KeyPackage
    And bob1 uploaded a last-resort KeyPackage
    And bobby consents to alice
    And bobby consents to cathy
    When alice claims KeyPackages of bobby
    And alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |
    And the packages of bobby are not those of the claim before
    When b.example is killed
    And b.example is started again
    And alice repeats the claim
    Then the packages of bobby are the same as in the claim before
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KPs exhausted |
    When cathy claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |
    And bob1 is told to replace its last-resort KeyPackage

  @R3.1-15 @R3.1-27
  Scenario: whoever wanted a client in a room in vain hears when it has KeyPackages again
    Given amy at a.example
    And bobby at b.example with the client bob1
    And amy and bobby consent to alice
    When alice claims KeyPackages of bobby and amy for the room den of a.example
    Then the claim answers
      | bobby | bob1 | KPs exhausted |
      | amy   | amy  | KPs exhausted |
    When b.example is killed
    And b.example is started again
    And bob1 uploads 2 KeyPackages
    And amy uploads 2 KeyPackages
    Then alice is told that bob1 of bobby can be added to the room den of a.example
    And alice is told that phone of amy can be added to the room den of a.example

  @R3.1-14
  Scenario: where refusals are folded, every one looks like missing consent
    Given b.example folds its refusals
    And bobby at b.example with the client bob1
    And bruce at b.example with the client bruce1
    And bella at b.example with the client bella1
    And b.example knows no ghost
    And bob1, bruce1 and bella1 uploaded 2 KeyPackages
    And bobby and bella consent to alice
    And bella was deleted
    Then each of these is refused in the same words, no state of b.example changes:
      | alice | ghost |   |
      | alice | bella |   |
      | alice | bruce |   |
      | alice | bobby | 2 |
    When alice claims KeyPackages of bobby
    Then the claim answers
      | bobby | bob1 | KeyPackage |
