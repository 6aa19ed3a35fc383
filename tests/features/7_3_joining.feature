# Source: transport requirements, section 7.3
Feature: Joining codes and links

  Background:
    Given the providers a.example and b.example
    And alice at a.example
    And bob at b.example
    And the room den of a.example with alice and bob
    And dave and erin at b.example

  @R7.3-01 @R3.3-06
  Scenario: a link leads a user of another provider into the room
    When bob makes a link called door for role 3
    And dave follows door
    Then it is accepted
    And alice, bob and dave agree on epoch 2
    And dave sees that door is for role 3, and made by bob
    And erin may not list the links
    And no log of a.example holds the code of door
    And no log of b.example holds the code of door

  @R7.3-02
  Scenario: a link without a code locates the room, and admits nobody who has no right of his own
    Given bob has another device, watch
    And alice makes a link called door
    And the link door without its code, called sign
    When dave follows sign
    Then it is refused as not authorized
    When watch follows sign
    Then it is accepted
    And alice, bob and watch agree on epoch 2

  @R7.3-03 @R7.3-05
  Scenario: a code for one join admits one, a code for two admits two
    Given alice makes a link called single for 1 join
    And alice makes a link called pair for 2 joins
    When dave follows single
    Then it is accepted
    When erin follows single
    Then it is refused as not authorized
    And the log of a.example says that a code is refused: used up
    When erin follows pair
    Then it is accepted
    And alice sees that pair has 1 join left
    And alice, bob, dave and erin agree on epoch 3

  @R7.3-03 @R7.3-05 @R3.3-07
  Scenario: two joiners and one use: exactly one of them gets in, and the code is used up
    Given alice makes a link called single for 1 join
    When dave and erin follow single at the same time
    Then exactly one of them is let in, and the other is not authorized
    And alice sees that single has 0 joins left
    And alice and bob agree on epoch 2

  @R7.3-03
  Scenario: a code without a number admits any number
    Given alice makes a link called door
    When dave follows door
    Then it is accepted
    When erin follows door
    Then it is accepted
    And alice, bob, dave and erin agree on epoch 3

  @R7.3-03 @R7.3-05
  Scenario: a code admits until its time is over
    Given alice makes a link called brief good for 1 ms
    And alice makes a link called long good for 600000 ms
    When dave follows brief
    Then it is refused as not authorized
    And the log of a.example says that a code is refused: expired
    When dave follows long
    Then it is accepted
    And alice, bob and dave agree on epoch 2

  @R7.3-03 @R7.3-05
  Scenario: a passphrase is asked for besides the code
    Given alice makes a link called vault with the passphrase sesame
    When dave follows vault
    Then it is refused as not authorized
    And the log of a.example says that a code is refused: wrong passphrase
    When dave follows vault with the passphrase Sesame
    Then it is refused as not authorized
    And the log of a.example says that a code is refused: wrong passphrase
    When dave follows vault with the passphrase sesame
    Then it is accepted
    And alice, bob and dave agree on epoch 2

  @R7.3-05
  Scenario: a code that was ended admits nobody, nor does the lease that came with it
    Given alice makes a link called door
    When dave asks for the GroupInfo with door
    Then dave has the GroupInfo of epoch 1
    When bob ends the link door
    And dave enters with its GroupInfo
    Then it is refused as not authorized
    When erin follows door
    Then it is refused as not authorized
    And the log of a.example says that a code is refused: revoked
    And alice and bob agree on epoch 1

  @R7.3-05
  Scenario: who tries wrong codes is locked out, and an honest user gets in
    Given alice makes a link called door
    And a link called guess with a code that nobody made
    When dave follows guess 5 times, in vain
    Then the log of a.example says that a code is refused: unknown
    When dave follows door
    Then it is refused as not authorized
    And the log of a.example says that a code is refused: locked
    When erin follows door
    Then it is accepted
    And alice, bob and erin agree on epoch 2

  @R7.3-06
  Scenario: an introduction tells whom it is from, until it is ended
    Given an introduction called fake that alice never made
    When alice makes an introduction called card
    Then dave learns that card is alice's
    And bob learns that card is alice's
    And dave learns nothing from fake
    When alice ends the introduction card
    Then dave learns nothing from card
