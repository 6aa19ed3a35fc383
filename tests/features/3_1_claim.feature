# Source: transport requirements, section 3.1.
Feature: Claiming single-use KeyPackages

  Background:
    Given the providers a.example, b.example and c.example
    And alice at a.example

  @R1-01 @R3.1-02 @R3.1-04 @R3.1-05 @R3.1-06 @R3.1-13 @R3.1-14 @R3.1-15 @R3.1-16 @R3.1-20
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
