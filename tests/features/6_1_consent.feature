# Source: transport requirements, section 6.1.
Feature: Consent that users ask of each other

  Background:
    Given the providers a.example and b.example
    And alice at a.example
    And bob at b.example
    And bob uploaded 5 KeyPackages

  @R6-01 @R6.1-01 @R6.1-03 @R6.1-05 @R6.1-06 @R6.1-07
  Scenario: who is asked for a room and consents can be added to it
    When alice asks bob for consent for the room den of a.example
    Then bob is told that alice asks for the room den of a.example
    And bob sees that alice waits for an answer
    When alice claims KeyPackages of bob for the room den of a.example
    Then the claim answers
      | bob |  | no consent to provide KPs |
    When bob gives alice consent for the room den of a.example
    Then alice is told that bob consents for the room den of a.example
    And bob sees that nobody waits for an answer
    When alice opens the room den of a.example and adds bob
    Then bob is in the room den of a.example

  @R6.1-03 @R6.1-08 @R6.1-09
  Scenario: consent for one room is none for another, and blanket consent is for all of them
    Given bob gave alice consent for the room den of a.example
    Then alice is told that bob consents for the room den of a.example
    When alice claims KeyPackages of bob for the room club of a.example
    Then the claim answers
      | bob |  | no consent to provide KPs |
    When bob gives alice consent
    Then alice is told that bob consents
    When alice claims KeyPackages of bob for the room club of a.example
    Then the claim answers
      | bob | bob | KeyPackage |
    When bob refuses alice consent for the room club of a.example
    And alice claims KeyPackages of bob for the room club of a.example
    Then the claim answers
      | bob |  | no consent to provide KPs |
    When alice claims KeyPackages of bob for the room den of a.example
    Then the claim answers
      | bob | bob | KeyPackage |

  @R6.1-09
  Scenario: a KeyPackage that was claimed for one room brings its user into no other
    Given bob gave alice consent for the room den of a.example
    When alice claims KeyPackages of bob for the room den of a.example
    And alice opens the room club of a.example and adds bob with what she claimed
    And alice claims KeyPackages of bob for the room den of a.example
    And alice opens the room den of a.example and adds bob with what she claimed
    Then bob is in the room den of a.example
    And bob is in no other, once both providers are at rest

  @R6.1-09
  Scenario: who lost consent after its claim brings nobody in
    Given bob gave alice consent
    When alice claims KeyPackages of bob for the room club of a.example
    And bob refuses alice consent for the room club of a.example
    And alice opens the room club of a.example and adds bob with what she claimed
    And alice claims KeyPackages of bob for the room den of a.example
    And alice opens the room den of a.example and adds bob with what she claimed
    Then bob is in the room den of a.example
    And bob is in no other, once both providers are at rest

  @R6.1-08
  Scenario: blanket consent goes one way until the other says it too
    Given bob gave alice consent
    And alice uploaded 1 KeyPackage
    When bob claims KeyPackages of alice
    Then the claim answers
      | alice |  | no consent to provide KPs |
    When alice gives bob consent
    Then bob is told that alice consents
    When bob claims KeyPackages of alice
    Then the claim answers
      | alice | alice | KeyPackage |

  @R6.1-02 @R6.1-04 @R6.1-10
  Scenario: whether somebody ignores, refuses, refused long ago or is not there, who asks cannot tell
    Given barry, bruce and bert at b.example
    And b.example knows no ghost
    And barry refused alice consent
    Then whoever alice asks for consent, she gets the same bytes: bob, barry, bruce, ghost
    And bob is told that alice asks
    And bruce is told that alice asks
    When bruce refuses alice consent
    # What bert says behind it comes behind anything that would have been said of the refusal.
    And bert gives alice consent
    Then alice is told that bert consents
    And alice was told 1 thing about consent
    And barry was told nothing about consent
    And barry sees that nobody waits for an answer

  @R6.1-04 @R6.1-05
  Scenario: who wants refusals to be told has them told to who asked
    Given bob wants others to be told of refusals
    When alice asks bob for consent
    Then bob is told that alice asks
    When bob refuses alice consent
    Then alice is told that bob does not consent

  @R6.1-10
  Scenario: a blanket refusal answers a request for a room, and every one that comes
    Given bob wants others to be told of refusals
    When alice asks bob for consent for the room den of a.example
    Then bob is told that alice asks for the room den of a.example
    When bob refuses alice consent
    Then alice is told that bob does not consent
    And bob sees that nobody waits for an answer
    When alice claims KeyPackages of bob for the room den of a.example
    Then the claim answers
      | bob |  | no consent to provide KPs |

  @R6.1-13
  Scenario: KeyPackages that come with a grant are used up by it, and add their clients without a claim
    When alice asks bob for consent for the room den of a.example
    And bob gives alice consent for the room den of a.example, with KeyPackages
    Then alice is told so with 1 KeyPackage of bob
    And bob has 4 KeyPackages left
    When alice opens the room den of a.example and adds bob with what came
    Then bob is in the room den of a.example

  @R6.1-13
  Scenario: KeyPackages that came with a grant are worth nothing once it is taken back
    Given bob gave alice consent for the room den of a.example, with KeyPackages
    Then alice is told so with 1 KeyPackage of bob
    When bob refuses alice consent for the room den of a.example
    And alice opens the room den of a.example and adds bob with what came
    And bob gives alice consent for the room club of a.example, with KeyPackages
    Then alice is told so with 1 KeyPackage of bob
    When alice opens the room club of a.example and adds bob with what came
    Then bob is in the room club of a.example
    And bob is in no other, once both providers are at rest

  @R6.1-05
  Scenario: what was asked can be taken back
    When alice asks bob for consent
    Then bob sees that alice waits for an answer
    When alice takes that request to bob back
    Then bob sees that nobody waits for an answer

  @R6.1-12
  Scenario: the same request again is the same, and only so many are made in an hour
    When alice asks bob for consent for as many rooms as one may in an hour
    Then alice may ask bob again, but for nothing more

  @R6-01 @R6.1-01
  Scenario: a request that was acknowledged arrives, though both providers are killed on the way
    Given bob sees that nobody waits for an answer
    When b.example is killed
    And alice asks bob, who is away, for consent
    And a.example is killed
    And a.example is started again
    And b.example is started again
    Then bob is told that alice asks

  @R6.1-01 @R6.1-03
  Scenario: users of one provider ask each other in the same way
    Given amy at a.example
    And amy uploaded 1 KeyPackage
    When alice asks amy for consent
    Then amy is told that alice asks
    When amy gives alice consent
    Then alice is told that amy consents
    When alice claims KeyPackages of amy
    Then the claim answers
      | amy | amy | KeyPackage |

  @R6.1-06
  Scenario: of a provider to which there is no link nobody can be asked
    Then alice cannot ask cathy for consent, for there is no link to c.example
