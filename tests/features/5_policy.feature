# Source: transport requirements, section 5.
Feature: Room policy: who may do what, by the role that the room gives

  Background:
    Given the providers a.example, b.example and c.example
    And alice at a.example
    And bob and carol at b.example
    And dora at c.example
    And the moderated room hall of a.example, which alice owns, with bob as moderator and carol as attendee

  @R5-09 @R6.4-01 @I23
  Scenario: a moderator gives voice and takes it, and it holds from its place in the log on
    Then alice and bob know that he has voice
    And carol knows that she has no voice
    When carol sends "too early"
    Then carol's message is refused as NoVoice
    When bob makes carol a speaker
    Then it is accepted
    And carol knows that she has voice
    When carol sends "heard"
    Then carol's message is accepted
    And alice and bob have received "heard"
    When alice makes carol a guest
    Then it is accepted
    And carol knows that she has no voice
    When carol sends "too late"
    Then carol's message is refused as NoVoice
    And alice and bob have not received "too early"
    And alice and bob have not received "too late"

  @R5-07
  Scenario: members of every provider are told who has another role
    When bob makes carol a speaker
    Then it is accepted
    And alice, bob and carol know that carol is a speaker now, and was an attendee
    And alice, bob and carol know that the participant_list changed

  @R5-05
  Scenario: the name of the room is changed by who may, and everybody is told
    When carol calls the room mine
    Then it is refused with the code forbidden_by_policy, for canChangeRoomName
    When bob calls the room ours
    Then it is accepted
    And alice, bob and carol know that the room_metadata changed
    And alice, bob and carol agree on epoch 2

  @I23
  Scenario: who may not add is refused, and nothing is left of the Commit
    When carol adds dora as guest
    Then it is refused with the code forbidden_by_policy, for canAddParticipant
    And alice, bob and carol agree on epoch 1
    And of the devices at c.example none is in a room
    When bob adds dora and leaves the list as it is
    Then it is refused with the code forbidden_by_policy, for participant_list
    When bob adds dora as guest
    Then it is accepted
    And alice, bob, carol and dora agree on epoch 2

  @I23
  Scenario: nobody gives itself a role, or one that its own does not reach
    When carol makes carol a speaker
    Then it is refused with the code forbidden_by_policy, for preauth_list
    When bob makes carol a super_admin
    Then it is refused with the code forbidden_by_policy, for canChangeUserRole
    When carol tries to propose that bob goes
    Then it is refused with the code forbidden_by_policy, for canKick
    And alice, bob and carol agree on epoch 1

  @I23
  Scenario: who is banned is out, and does not come back
    When bob bans carol
    Then it is accepted
    When carol joins by itself
    Then it is refused as not authorized
    When alice makes a link called door for role 2
    And carol follows door
    Then it is refused as not authorized
    When bob adds carol as guest
    Then it is refused with the code forbidden_by_policy, for banned

  @R7.3-04 @I23
  Scenario: who comes by a link has the role that it is for
    When alice makes a link called door for role 3
    And dora follows door
    Then it is accepted
    And alice, bob, carol and dora agree on epoch 2
    When alice sends "welcome"
    Then dora has received "welcome"
    When dora sends "as an attendee"
    Then dora's message is refused as NoVoice
    # An attendee may bring in further devices of its own, a guest may not.
    Given dora has another device, watch
    When watch joins by itself
    Then it is accepted
    And alice, bob, carol and dora agree on epoch 3
    When bob makes dora a speaker
    Then it is accepted
    And dora knows that she has voice
    When dora sends "as a speaker"
    Then dora's message is accepted

  @R5-06 @I23
  Scenario: who is preauthorised comes in by itself, once everybody was told so
    When dora joins by itself
    Then it is refused as not authorized
    When bob lets users of c.example in as attendee
    Then it is refused with the code forbidden_by_policy, for canChangePreauthorizedUserList
    When alice lets users of c.example in as attendee
    Then it is accepted
    And alice, bob and carol know that the preauth_list changed
    When dora joins by itself
    Then it is accepted
    And alice, bob, carol and dora agree on epoch 3

  Scenario: a room does not begin with a policy that does not read, or locks out its creator
    When alice opens the room den of a.example with a participant list that does not read
    Then it is refused with the code bad_policy, for participant_list
    When alice opens the room den of a.example, in which she is a guest
    Then it is refused with the code bad_policy, for roles_list
